package recent

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLinesKeepAttributesApart(t *testing.T) {
	r := Keep(2)
	log := slog.New(Tee(slog.DiscardHandler, r)).With("mesh", "demo", "app", "tunnel")
	log.Info("one")
	log.With("peer", "ID").Warn("two", "err", errors.New("no way"))
	log.Info("three", "peer", "other")
	type line struct {
		Message string
		Attrs   map[string]string
	}
	var got []line
	for _, e := range r.Entries() {
		got = append(got, line{e.Message, e.Attrs})
	}
	want := []line{
		{"two", map[string]string{"app": "tunnel", "peer": "ID", "err": "no way"}},
		{"three", map[string]string{"app": "tunnel", "peer": "other"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
