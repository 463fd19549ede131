package control

import (
	"errors"
	"syscall"
	"testing"

	"ztm/tunnel/answer"
)

func TestHubsThatSayTheSameAreNamedTogether(t *testing.T) {
	offline := errors.New("office is offline")
	err := answer.Join(HubErrors([]string{"a:1", "b:1", "c:1", "d:1"}, []error{offline, syscall.ECONNREFUSED, errors.New("office is offline"), offline})...)
	if want := "hub a:1, c:1, d:1: office is offline; hub b:1 refuses the connection: is it running? (connection refused)"; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
}
