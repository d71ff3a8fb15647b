module top(input clk, input [15:0] a, b, output reg [31:0] q);
  reg [31:0] sum;
  always @(posedge clk) begin
    sum <= sum + a * b;
    q <= sum ^ {a, b};
  end
endmodule
