// A multiplier that accumulates, a barrel shifter, and a queue of 16 words between them.
module top(input clk, reset, push, pop, input [31:0] a, b, input [4:0] by, output reg [63:0] sum,
           output [31:0] front, output empty, full);
  reg [31:0] queue [0:15];
  reg [4:0] first, last;
  wire [31:0] turned = (a << by) | (a >> (32 - by));
  assign front = queue[first[3:0]];
  assign empty = first == last;
  assign full = first[3:0] == last[3:0] && first[4] != last[4];
  always @(posedge clk)
    if (reset) begin
      sum <= 0;
      first <= 0;
      last <= 0;
    end else begin
      if (push && !full) begin
        queue[last[3:0]] <= turned ^ b;
        last <= last + 1;
      end
      if (pop && !empty) begin
        sum <= sum + front * b + turned * front;
        first <= first + 1;
      end
    end
endmodule
