package forks

import "testing"

func TestListsThatDifferAreKeptInSmallNumber(t *testing.T) {
	f := Forks{}
	for i := range Max + 3 {
		if f.Add(string(rune('a'+i)), []byte("x")) != (i < Max) {
			t.Errorf("list %d", i)
		}
	}
}
