package rand

import "testing"

func TestNumbersAreWithinTheirBounds(t *testing.T) {
	seen := map[int]bool{}
	for range 1000 {
		if f := Float64(); f < 0 || f >= 1 {
			t.Errorf("Float64: %v", f)
		}
		n := Intn(3)
		if n < 0 || n > 2 {
			t.Errorf("Intn(3): %d", n)
		}
		seen[n] = true
	}
	if len(seen) != 3 {
		t.Errorf("Intn(3) makes only %v", seen)
	}
}

func TestASeedMakesTheSameNumbersAgain(t *testing.T) {
	a, b, other := New(NewSource(7)), New(NewSource(7)), New(NewSource(8))
	differs := false
	for range 10 {
		x := a.Uint32()
		if x != b.Uint32() {
			t.Error("the same seed makes other numbers")
		}
		differs = differs || x != other.Uint32()
	}
	if !differs {
		t.Error("another seed makes the same numbers")
	}
}
