package room

import (
	"bytes"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ztm/apps/appstest"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

func TestARoomIsLargeOnlyWhileMuchComes(t *testing.T) {
	r := Room{Ladder: NewLadder(10, 100, 1000)}
	type step struct{ Brought, Size int }
	var got []step
	for _, n := range []int{3, 10, 100, 1000, 500, 101, 100, 11, 7, 9, 10, 3} {
		r.Next(nil)
		got = append(got, step{n, r.Size()})
		r.Brought(n)
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

func TestWhatIsLeftMovesToTheFrontOfEveryRoom(t *testing.T) {
	r := Room{Ladder: NewLadder(8, 64)}
	b := r.Next(nil)
	copy(b, "abcdefgh")
	for _, left := range []string{"gh", "defgh", "abcdefgh"} {
		r.Brought(len(left))
		b = r.Next([]byte(left))
		if !bytes.HasPrefix(b, []byte(left)) {
			t.Errorf("%q is at the front, want %q", b[:len(left)], left)
		}
		if len(b) <= len(left) {
			t.Errorf("no room is left behind %q", left)
		}
	}
}

func TestABufferThatIsLentHoldsWhatWasAskedFor(t *testing.T) {
	l := NewLadder(8, 64)
	for _, c := range []struct{ ask, get int }{{0, 8}, {8, 8}, {9, 64}, {64, 64}, {65, 64}} {
		b := l.Lend(c.ask)
		if len(*b) != c.get {
			t.Errorf("asked for %d bytes, lent %d, want %d", c.ask, len(*b), c.get)
		}
		l.Return(b)
	}
}
