package budget

import "testing"

func TestTheWindowsOfAllConnectionsGrowWithinHalfTheBudget(t *testing.T) {
	b := &Budget{Limit: 100}
	if !b.Grow(30) || b.Grow(30) || !b.Grow(20) {
		t.Error("more or less than half can be reserved")
	}
	if b.Shrink(20); !b.Grow(20) {
		t.Error("what was given back cannot be reserved")
	}
	var none *Budget
	if !none.Grow(1<<30) || none.Press() != 0 || none.Spent(1<<30) || !none.Enough() {
		t.Error("without a budget there is a limit")
	}
}
