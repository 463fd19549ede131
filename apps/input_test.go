package apps

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAnInputIsReadUpToItsLimitAndNotBeyond(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(file, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{file, "-"} {
		if b, err := ReadInput(strings.NewReader("12345"), name, 5); err != nil || string(b) != "12345" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
		b, err := ReadInput(strings.NewReader("12345"), name, 4)
		if err == nil || b != nil || !strings.HasPrefix(err.Error(), InputName(name)) {
			t.Errorf("%s, of at most 4 bytes: %q, %v", name, b, err)
		}
	}
}
