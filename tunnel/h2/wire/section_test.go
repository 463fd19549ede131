package wire

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2/hpack"
)

// decodeSection reads the frames of a section as any HTTP/2 does.
func decodeSection(t testing.TB, b []byte) (f Fields, frames []Frame) {
	t.Helper()
	d := hpack.NewDecoder(0, func(field Field) { f = append(f, field) })
	for len(b) > 0 {
		head := Parse((*[HeaderSize]byte)(b))
		frames = append(frames, head)
		b = b[HeaderSize:]
		if _, err := d.Write(b[:head.Length]); err != nil {
			t.Fatal(err)
		}
		b = b[head.Length:]
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return f, frames
}

func TestASectionIsReadAsItWasWritten(t *testing.T) {
	long := strings.Repeat("x", 3*LeastFrame)
	for name, f := range map[string]Fields{
		"none":       nil,
		"a flow":     {{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "peer"}, {Name: ":path", Value: "/v1/apps/x"}, {Name: "ztm-flow", Value: "ABC"}},
		"an answer":  {{Name: ":status", Value: "200"}},
		"others":     {{Name: ":status", Value: "418"}, {Name: "content-type", Value: ""}, {Name: "secret", Value: "s", Sensitive: true}},
		"a long one": {{Name: "a", Value: long[:126]}, {Name: "b", Value: long[:127]}, {Name: "c", Value: long[:128]}, {Name: long[:300], Value: long}},
	} {
		t.Run(name, func(t *testing.T) {
			got, frames := decodeSection(t, AppendSection(nil, 7, f, true))
			if diff := cmp.Diff(slices.Clone(f), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			for i, frame := range frames {
				first, last := i == 0, i == len(frames)-1
				if frame.Stream != 7 || frame.Length > LeastFrame || (frame.Kind == FrameHeaders) != first || frame.Has(FlagEndHeaders) != last || frame.Has(FlagEndStream) != first {
					t.Errorf("frame %d: %+v", i, frame)
				}
			}
		})
	}
}

func TestIndexesAreThoseOfTheStaticTable(t *testing.T) {
	for field, i := range indexed {
		got, err := hpack.NewDecoder(0, nil).DecodeFull([]byte{hpackIndexed | i})
		if err != nil || len(got) != 1 || got[0] != field {
			t.Errorf("%d is %v, %v, and not %v", i, got, err, field)
		}
	}
	for name, i := range names {
		got, err := hpack.NewDecoder(0, nil).DecodeFull([]byte{hpackIndexed | byte(i)})
		if err != nil || len(got) != 1 || got[0].Name != name {
			t.Errorf("%d is %v, %v, and not of the name %q", i, got, err, name)
		}
	}
}
