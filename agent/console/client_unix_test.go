//go:build unix

package console

import (
	"net"
	"os"
	"testing"

	"ztm/agent/api"
)

// leaveSocket leaves in dir what an agent leaves that was killed.
func leaveSocket(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", api.Location(dir))
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
}
