package load

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestAServerGivesFilesBelowItsDirectoryAlone(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "server"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Join(dir, "server"))
	for _, name := range []string{"inside", "../outside"} {
		if err := os.WriteFile(name, []byte("content"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go Serve(ln) // ends with the listener
	to := filepath.Join(dir, "copy")
	if err := File(t.Context(), ln.Addr().String(), "inside", to, 7); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(to); err != nil || string(b) != "content" {
		t.Errorf("%q, %v", b, err)
	}
	for _, name := range []string{"../outside", filepath.Join(dir, "outside")} {
		if err := File(t.Context(), ln.Addr().String(), name, to, 7); err == nil {
			t.Errorf("it gave %s", name)
		}
	}
}
