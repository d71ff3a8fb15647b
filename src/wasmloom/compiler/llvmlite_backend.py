"""LLVM by way of llvmlite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from llvmlite import binding
from llvmlite.binding.newpassmanagers import NewPassManager

from wasmloom.compiler import workers
from wasmloom.errors import CompileError
from wasmloom.target import backend

#: LLVM's names of passes → llvmlite's.
_PASSES = {
    "always-inline": "always_inliner",
    "instcombine": "instruction_combine",
    "jump-threading": "jump_threading",
    "loop-rotate": "loop_rotate",
    "simplifycfg": "simplify_cfg",
    "sroa": "sroa",
}


class Llvmlite:
    """See `wasmloom.compiler.backends.Backend`. It holds one lock for everything."""

    def __init__(self) -> None:
        for option in backend.OPTIONS:
            binding.set_option("wasmloom", option)
        if workers.is_worker:
            # The option is the whole process's, so it is left alone where others may use LLVM.
            binding.set_option("wasmloom", backend.NO_VARIABLES)
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        binding.initialize_native_asmparser()

    def features(self) -> Mapping[str, bool]:
        """See the protocol."""
        found: Mapping[str, bool] = binding.get_host_cpu_features()
        return found

    def compile(self, text: str, passes: Sequence[str] | None, level: int, assembly: bool = False) -> bytes:
        """See the protocol.

        Invariant: a module goes before its context. llvmlite disposes of each when Python finds it to be garbage; if
        that is the context first, it takes the module along, which is then freed twice. So nothing of a unit outlives
        the ``with``, and no signal handler may run in it (see `wasmloom.compiler.workers.compile_parts`): an exception
        between two lines would leave both to Python, or llvmlite's lock locked.
        """
        machine = _machine(level)
        # In a context of its own, since the global one keeps types, constants and debug locations for ever.
        with binding.create_context() as context, _parsed(text, context) as module:
            module.triple = machine.triple
            module.data_layout = str(machine.target_data)
            tuning = binding.create_pipeline_tuning_options(speed_level=2 if passes is None else 0)
            # Nothing to gain: every load is used by something that isn't a vector.
            tuning.loop_vectorization = False
            builder = binding.create_pass_builder(machine, tuning)
            if passes is None:
                manager = builder.getModulePassManager()
            else:
                manager = binding.create_new_module_pass_manager()
                for name in passes:
                    getattr(manager, f"add_{_PASSES[name]}_pass")()
            try:
                manager.run(module, builder)
            finally:
                # llvmlite's own method for this is hidden by one that does nothing: each unit would leave 60 KB behind.
                # What a pass builder leaves, 1.5 KB, nothing can free: the callbacks in it belong to one run, so it
                # can't be used again either.
                NewPassManager._dispose(manager)
                manager.detach()
            return machine.emit_assembly(module).encode() if assembly else bytes(machine.emit_object(module))


def _parsed(text: str, context: binding.ContextRef) -> binding.ModuleRef:
    try:
        return binding.parse_assembly(text, context)
    except RuntimeError as error:
        raise CompileError(f"LLVM refuses what it was given: {error}") from error


@lru_cache(maxsize=4)
def _machine(level: int) -> binding.TargetMachine:
    return binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(),
        features=backend.features(binding.get_host_cpu_features()),
        opt=level,
        reloc="pic",
        codemodel="small",
    )
