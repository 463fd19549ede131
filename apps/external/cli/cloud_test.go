package cli

import (
	"testing"

	"ztm/apps/external/bundle"
	"ztm/apps/external/manifest"
)

func TestWhatIsPublishedUnderANameIsTheAppOfThatName(t *testing.T) {
	b := &bundle.Bundle{Manifest: manifest.Manifest{Provider: "alice", Name: "hello", Sequence: 7}}
	for _, test := range []struct {
		id       string
		sequence uint64
		good     bool
	}{{"alice/hello", 7, true}, {"alice/chat", 7, false}, {"bob/hello", 7, false}, {"alice/hello", 8, false}} {
		if err := named(b, test.id, test.sequence); (err == nil) != test.good {
			t.Errorf("%s, number %d: %v", test.id, test.sequence, err)
		}
	}
}
