package identity

import (
	"strings"
	"testing"
)

func TestNamesAreShortAndNeedNoEscaping(t *testing.T) {
	good := []string{"a", "7", "bob", "Bob-1", "bob@example.com", "a_b.c", strings.Repeat("x", 63)}
	for _, s := range good {
		if err := CheckName(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	bad := []string{"", ".", "..", "-x", "@x", "_x", "a b", "a/b", "a%2fb", "a\x00", "a\n", "é", "aé", "a:b", strings.Repeat("x", 64)}
	for _, s := range bad {
		if CheckName(s) == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}

func TestIDHasOneForm(t *testing.T) {
	id := newDevice(t).id
	if got, err := ParseID(string(id)); got != id || err != nil {
		t.Errorf("ParseID(%q) = %q, %v", id, got, err)
	}
	for _, s := range []string{"", string(id[1:]), string(id) + "a", strings.ToUpper(string(id)), string(id[:31]) + "1", string(id[:31]) + "\n", string(id) + "\n", string(id[:31]) + "="} {
		if _, err := ParseID(s); err == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}
