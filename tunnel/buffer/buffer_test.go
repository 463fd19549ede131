package buffer

import (
	"bytes"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ztm/apps/appstest"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

func TestABufferIsLargeOnlyWhileMuchComes(t *testing.T) {
	r := Buffer{Classes: NewClasses(10, 100, 1000)}
	type step struct{ Filled, Size int }
	var got []step
	for _, n := range []int{3, 10, 100, 1000, 500, 101, 100, 11, 7, 9, 10, 3} {
		r.Next(nil)
		got = append(got, step{n, r.Size()})
		r.Filled(n)
	}
	want := []step{
		{3, 10}, {10, 10}, {100, 100}, // full ones call for larger ones
		{1000, 1000}, {500, 1000}, {101, 1000}, {100, 1000}, // and stay while a smaller one would not do
		{11, 100}, {7, 100},
		{9, 10}, {10, 10}, {3, 100},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	r.Release()
	if r.Size() != 0 {
		t.Error("the buffer was not given back")
	}
}

func TestWhatIsLeftMovesToTheFrontOfEveryBuffer(t *testing.T) {
	r := Buffer{Classes: NewClasses(8, 64)}
	b := r.Next(nil)
	copy(b, "abcdefgh")
	for _, left := range []string{"gh", "defgh", "abcdefgh"} {
		r.Filled(len(left))
		b = r.Next([]byte(left))
		if !bytes.HasPrefix(b, []byte(left)) {
			t.Errorf("%q is at the front, want %q", b[:len(left)], left)
		}
		if len(b) <= len(left) {
			t.Errorf("no place is left behind %q", left)
		}
	}
}

func TestABufferHoldsWhatWasAskedFor(t *testing.T) {
	l := NewClasses(8, 64)
	for _, c := range []struct{ ask, get int }{{0, 8}, {8, 8}, {9, 64}, {64, 64}, {65, 64}} {
		b := l.Get(c.ask)
		if len(*b) != c.get {
			t.Errorf("asked for %d bytes, got %d, want %d", c.ask, len(*b), c.get)
		}
		l.Put(b)
	}
}
