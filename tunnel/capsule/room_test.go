package capsule

import (
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// pieces gives each piece in a Read of its own.
type pieces [][]byte

func (p *pieces) Read(b []byte) (int, error) {
	if len(*p) == 0 {
		return 0, io.EOF
	}
	n := copy(b, (*p)[0])
	if (*p)[0] = (*p)[0][n:]; len((*p)[0]) == 0 {
		*p = (*p)[1:]
	}
	return n, nil
}

func TestASourceHasALargeBufferOnlyWhileItSaysMuch(t *testing.T) {
	const full = sip - dataHeader
	src := pieces{make([]byte, 10), make([]byte, 30_000), make([]byte, 5), make([]byte, full-1)}
	r := room{large: &buffers, head: dataHeader}
	type step struct{ read, room int }
	var got []step
	for {
		b, n, err := r.read(&src)
		if err == io.EOF {
			break
		}
		if len(b) != dataHeader+n {
			t.Fatalf("%d bytes read, %d returned", n, len(b))
		}
		got = append(got, step{n, len(*r.buf)})
	}
	r.release()
	want := []step{{10, sip}, {full, sip}, {30_000 - full, chunk}, {5, chunk}, {full - 1, sip}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(step{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if r.buf != nil {
		t.Error("the buffer was not given back")
	}
}
