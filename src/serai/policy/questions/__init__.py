"""Pure: what people ask about policies. Every answer is exact; none tries packets out."""
