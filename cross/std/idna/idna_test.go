package idna

import "testing"

func TestNamesInASCIIAreKeptAndOthersRefused(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", ""}, {"hub.example.com", "hub.example.com"}, {"xn--bcher-kva.example", "xn--bcher-kva.example"}, {"under_score", "under_score"},
	} {
		if got, err := Lookup.ToASCII(tt.in); got != tt.want || err != nil {
			t.Errorf("%q: %q, %v", tt.in, got, err)
		}
	}
	if got, err := ToASCII("bücher.example"); err == nil {
		t.Errorf("a name that is not in ASCII is %q", got)
	}
}
