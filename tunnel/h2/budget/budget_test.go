package budget

import "testing"

func TestAConnectionLeavesAsMuchToGrowAsItHas(t *testing.T) {
	b := &Budget{Limit: 200}
	first := b.Grow(0, 20)
	first += b.Grow(first, 1000)
	second := b.Grow(0, 1000)
	if first != 50 || second != 25 {
		t.Errorf("of 100 the first has %d, the second %d", first, second)
	}
	if n := b.Grow(first, 10); n != 0 {
		t.Errorf("who has the most grows by another %d", n)
	}
	for range 20 {
		first -= b.Yield(first, 4)
		second += b.Grow(second, 4)
	}
	if least := min(first, second, 100-first-second); least < 30 {
		t.Errorf("in the end the first has %d, the second %d of 100", first, second)
	}
	if b.Shrink(first); b.Grow(second, 1000) == 0 {
		t.Error("what was given back cannot be reserved")
	}
}

func TestWithoutABudgetNothingIsLimited(t *testing.T) {
	var none *Budget
	if none.Grow(0, 1<<30) != 1<<30 || none.Yield(1<<30, 1) != 0 || none.Press() != 0 || none.Spent(1<<30) || !none.Enough() {
		t.Error("without a budget there is a limit")
	}
}
