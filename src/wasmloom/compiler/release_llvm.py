"""LLVM by way of its C interface, with `ctypes`: a dozen functions of a shared library.

Invariants:

* What is made is disposed of, in the reverse order: a module before its context. A text that LLVM returns is
  LLVM's to free.
* Without a handler for its diagnostics, LLVM ends the process at an error; `ctypes` passes nothing on that a handler
  raises, so it collects texts.
* Calls release the GIL. Threads share nothing of LLVM's but what the constructor sets up: each has its own context, and
  a target machine for each unit.
* No signal handler runs in a thread that compiles (see `wasmloom.compiler.workers.compile_parts`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from ctypes import CFUNCTYPE, POINTER, byref, c_char_p, c_int, c_size_t, c_void_p

from wasmloom.errors import CompileError
from wasmloom.target import backend

#: Values of enumerations in LLVM's headers.
_ERROR = 0  # LLVMDSError
_RETURN_STATUS = 2  # LLVMReturnStatusAction
_PIC, _SMALL = 2, 3  # LLVMRelocPIC, LLVMCodeModelSmall
_ASSEMBLY, _OBJECT = 0, 1  # LLVMAssemblyFile, LLVMObjectFile

#: What a handler of diagnostics is: ``void (LLVMDiagnosticInfoRef, void *)``.
_HANDLER = CFUNCTYPE(None, c_void_p, c_void_p)
_TEXT = POINTER(c_void_p)

#: Result and parameters. A text is a ``c_void_p`` where it has to be freed: `ctypes` turns others into bytes at once.
_FUNCTIONS = {
    "LLVMContextCreate": (c_void_p,),
    "LLVMContextDispose": (None, c_void_p),
    "LLVMContextSetDiagnosticHandler": (None, c_void_p, _HANDLER, c_void_p),
    "LLVMContextSetDiscardValueNames": (None, c_void_p, c_int),
    "LLVMCreateMemoryBufferWithMemoryRange": (c_void_p, c_char_p, c_size_t, c_char_p, c_int),
    "LLVMCreatePassBuilderOptions": (c_void_p,),
    "LLVMCreateTargetDataLayout": (c_void_p, c_void_p),
    "LLVMCreateTargetMachine": (c_void_p, c_void_p, c_char_p, c_char_p, c_char_p, c_int, c_int, c_int),
    "LLVMDisposeMemoryBuffer": (None, c_void_p),
    "LLVMDisposeMessage": (None, c_void_p),
    "LLVMDisposeModule": (None, c_void_p),
    "LLVMDisposePassBuilderOptions": (None, c_void_p),
    "LLVMDisposeTargetData": (None, c_void_p),
    "LLVMDisposeTargetMachine": (None, c_void_p),
    "LLVMDisposeErrorMessage": (None, c_void_p),
    "LLVMGetBufferSize": (c_size_t, c_void_p),
    "LLVMGetBufferStart": (c_void_p, c_void_p),
    "LLVMGetDefaultTargetTriple": (c_void_p,),
    "LLVMGetDiagInfoDescription": (c_void_p, c_void_p),
    "LLVMGetDiagInfoSeverity": (c_int, c_void_p),
    "LLVMGetErrorMessage": (c_void_p, c_void_p),
    "LLVMGetHostCPUFeatures": (c_void_p,),
    "LLVMGetHostCPUName": (c_void_p,),
    "LLVMGetTargetFromTriple": (c_int, c_char_p, POINTER(c_void_p), _TEXT),
    "LLVMParseCommandLineOptions": (None, c_int, POINTER(c_char_p), c_char_p),
    "LLVMParseIRInContext": (c_int, c_void_p, c_void_p, POINTER(c_void_p), _TEXT),
    "LLVMPassBuilderOptionsSetLoopVectorization": (None, c_void_p, c_int),
    "LLVMRunPasses": (c_void_p, c_void_p, c_char_p, c_void_p, c_void_p),
    "LLVMSetModuleDataLayout": (None, c_void_p, c_void_p),
    "LLVMSetTarget": (None, c_void_p, c_char_p),
    "LLVMTargetMachineEmitToMemoryBuffer": (c_int, c_void_p, c_void_p, c_int, _TEXT, POINTER(c_void_p)),
}
#: What makes LLVM know the processor: ``LLVMInitialize<kind><part>``.
_PARTS = ("TargetInfo", "Target", "TargetMC", "AsmPrinter", "AsmParser")

#: Passes that aren't written in a pipeline as they are called. Combining would end the process where it doesn't come
#: to an end, and is to keep the blocks as they are where it does what llvmlite's does.
_PASSES = {
    "instcombine": "instcombine<no-verify-fixpoint>",
    "loop-rotate": "loop(loop-rotate)",
    "sroa": "sroa<preserve-cfg>",
}


class ReleaseLLVM:
    """See `wasmloom.compiler.backends.Backend`."""

    def __init__(self, path: str) -> None:
        """Load the library at a path. Raises `OSError`, and `AttributeError` if it isn't LLVM's."""
        self._lib = lib = ctypes.CDLL(path)
        for name, (result, *parameters) in _FUNCTIONS.items():
            function = getattr(lib, name)
            function.restype, function.argtypes = result, parameters
        for part in _PARTS:
            getattr(lib, f"LLVMInitialize{backend.LLVM_NAME}{part}")()
        # The first is the program's name. LLVM ends the process at an option that it doesn't know, or has had before.
        options = [b"wasmloom", *(option.encode() for option in (*backend.OPTIONS, backend.NO_VARIABLES))]
        lib.LLVMParseCommandLineOptions(len(options), (c_char_p * len(options))(*options), None)
        self._triple = self._taken(lib.LLVMGetDefaultTargetTriple())
        self._processor = self._taken(lib.LLVMGetHostCPUName())
        listed = self._taken(lib.LLVMGetHostCPUFeatures()).decode().split(",")
        self._features = {name[1:]: name[0] == "+" for name in listed if name}
        target, message = c_void_p(), c_void_p()
        if lib.LLVMGetTargetFromTriple(self._triple, byref(target), byref(message)):
            raise OSError(self._taken(message.value).decode())
        self._target = target

    def features(self) -> Mapping[str, bool]:
        """See the protocol."""
        return self._features

    def compile(self, text: str, passes: Sequence[str] | None, level: int, assembly: bool = False) -> bytes:
        """See the protocol."""
        with self._context() as (context, errors), ExitStack() as stack:
            module = self._module(text, context)
            stack.callback(self._lib.LLVMDisposeModule, module)
            machine = self._lib.LLVMCreateTargetMachine(
                self._target,
                self._triple,
                self._processor,
                backend.features(self._features).encode(),
                level,
                _PIC,
                _SMALL,
            )
            stack.callback(self._lib.LLVMDisposeTargetMachine, machine)
            self._optimise(module, machine, passes)
            content = self._emitted(module, machine, _ASSEMBLY if assembly else _OBJECT)
            if errors:
                _refuse(errors[0])
            return content

    def _taken(self, text: int | None) -> bytes:
        """A text of LLVM's, which is freed."""
        if text is None:
            return b""
        try:
            return ctypes.string_at(text)
        finally:
            self._lib.LLVMDisposeMessage(text)

    @contextmanager
    def _context(self) -> Iterator[tuple[int, list[str]]]:
        """A context, and the errors that LLVM finds in what is done in it."""
        lib = self._lib
        errors: list[str] = []

        def note(info: int, _: int) -> None:
            if lib.LLVMGetDiagInfoSeverity(info) == _ERROR:
                errors.append(self._taken(lib.LLVMGetDiagInfoDescription(info)).decode(errors="replace"))

        handler = _HANDLER(note)
        context = lib.LLVMContextCreate()
        try:
            lib.LLVMContextSetDiagnosticHandler(context, handler, None)
            yield context, errors
        finally:
            lib.LLVMContextDispose(context)
            del handler  # LLVM may have called it up to here

    def _module(self, text: str, context: int) -> int:
        """The module that IR describes. Parsing verifies it as well."""
        lib = self._lib
        content = text.encode()  # which ends with a zero, as every bytes object does
        buffer = lib.LLVMCreateMemoryBufferWithMemoryRange(content, len(content), b"unit", 1)
        module, message = c_void_p(), c_void_p()
        if lib.LLVMParseIRInContext(context, buffer, byref(module), byref(message)):  # and the buffer is disposed of
            _refuse(self._taken(message.value).decode(errors="replace"))
        lib.LLVMContextSetDiscardValueNames(context, 1)  # nobody reads those of new values
        return module.value or 0

    def _optimise(self, module: int, machine: int, passes: Sequence[str] | None) -> None:
        lib = self._lib
        lib.LLVMSetTarget(module, self._triple)
        layout = lib.LLVMCreateTargetDataLayout(machine)
        lib.LLVMSetModuleDataLayout(module, layout)
        lib.LLVMDisposeTargetData(layout)
        options = lib.LLVMCreatePassBuilderOptions()
        try:
            # Nothing to gain: every load is used by something that isn't a vector.
            lib.LLVMPassBuilderOptionsSetLoopVectorization(options, 0)
            error = lib.LLVMRunPasses(module, _pipeline(passes), machine, options)
        finally:
            lib.LLVMDisposePassBuilderOptions(options)
        if error:
            message = lib.LLVMGetErrorMessage(error)
            try:
                text = ctypes.string_at(message).decode(errors="replace")
            finally:
                lib.LLVMDisposeErrorMessage(message)
            _refuse(text)

    def _emitted(self, module: int, machine: int, kind: int) -> bytes:
        lib = self._lib
        buffer, message = c_void_p(), c_void_p()
        if lib.LLVMTargetMachineEmitToMemoryBuffer(machine, module, kind, byref(message), byref(buffer)):
            _refuse(self._taken(message.value).decode(errors="replace"))
        try:
            return ctypes.string_at(lib.LLVMGetBufferStart(buffer), lib.LLVMGetBufferSize(buffer))
        finally:
            lib.LLVMDisposeMemoryBuffer(buffer)


def _pipeline(passes: Sequence[str] | None) -> bytes:
    """Passes as LLVM's pipelines are written."""
    if passes is None:
        return b"default<O2>"
    of_modules = [name for name in passes if name == "always-inline"]
    of_functions = [_PASSES.get(name, name) for name in passes if name != "always-inline"]
    if of_functions:
        of_modules.append(f"function({','.join(of_functions)})")
    return ",".join(of_modules).encode()


def _refuse(message: str) -> None:
    raise CompileError(f"LLVM refuses what it was given: {message}")
