package buffer

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

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

// failing is a writer that takes so many bytes.
type failing int

func (f *failing) Write(b []byte) (int, error) {
	n := min(int(*f), len(b))
	if *f -= failing(n); n < len(b) {
		return n, io.ErrShortWrite
	}
	return n, nil
}

func TestACopyEndsWithItsSourceOrWithTheFirstFailure(t *testing.T) {
	classes, broken := NewClasses(1, 4), errors.New("broken")
	for name, tt := range map[string]struct {
		src  io.Reader
		most failing
		want error
		took int64
	}{
		"the end of the source":    {strings.NewReader("0123456789"), 100, nil, 10},
		"a source that breaks":     {io.MultiReader(strings.NewReader("0123456789"), iotest.ErrReader(broken)), 100, broken, 10},
		"a writer that takes less": {strings.NewReader("0123456789"), 7, io.ErrShortWrite, 7},
	} {
		took := int64(0)
		if err := classes.Copy(&tt.most, tt.src, func(n int64) { took += n }); err != tt.want || took != tt.took {
			t.Errorf("%s: %v after %d bytes, want %v after %d", name, err, took, tt.want, tt.took)
		}
	}
}
