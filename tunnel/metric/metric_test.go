package metric

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFamiliesStandTogether(t *testing.T) {
	var s Set
	for _, mesh := range []string{"a", "b"} {
		w := s.With("mesh", mesh)
		w.Gauge("up", "1 while it is up.", 1)
		w.With("end", "in").Counter("flows_total", "Flows.", 7, "peer", "x")
	}
	s.With().Gauge("alone", "No labels.", -1)
	var b strings.Builder
	if _, err := s.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	want := `# HELP alone No labels.
# TYPE alone gauge
alone -1
# HELP flows_total Flows.
# TYPE flows_total counter
flows_total{mesh="a",end="in",peer="x"} 7
flows_total{mesh="b",end="in",peer="x"} 7
# HELP up 1 while it is up.
# TYPE up gauge
up{mesh="a"} 1
up{mesh="b"} 1
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestLabelsOfOthersSpoilNothing holds that a path or a name with odd bytes does not make the whole
// answer unreadable.
func TestLabelsOfOthersSpoilNothing(t *testing.T) {
	var s Set
	s.With().Gauge("up", "Up.", 1, "target", "unix:/a\"b\\c\nd\x1b\xffé")
	var b strings.Builder
	s.WriteTo(&b)
	if want := "up{target=\"unix:/a\\\"b\\\\c\\nd\x1b\uFFFDé\"} 1\n"; !strings.HasSuffix(b.String(), "\n"+want) {
		t.Errorf("%q", b.String())
	}
}
