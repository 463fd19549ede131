package control

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"ztm/tunnel"
	"ztm/tunnel/answer"
)

func TestHubsThatSayTheSameAreNamedTogether(t *testing.T) {
	offline := errors.New("office is offline")
	err := answer.Join(HubErrors([]string{"a:1", "b:1", "c:1", "d:1"}, []error{offline, syscall.ECONNREFUSED, errors.New("office is offline"), offline})...)
	if want := "hub a:1, c:1, d:1: office is offline; hub b:1 refuses the connection: is it running? (connection refused)"; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
}

func TestAnEndpointThatWasEvictedIsToldOnceHoweverManyHubsSaySo(t *testing.T) {
	rejected := func(hub string) error { return HubError(hub, fmt.Errorf("%w (bad certificate)", tunnel.ErrRejected)) }
	err := trouble([]error{rejected("a:1"), rejected("b:1")})
	if !errors.Is(err, tunnel.ErrRejected) || strings.Count(err.Error(), "evicted") != 1 {
		t.Errorf("%q", err)
	}
	err = trouble([]error{rejected("a:1"), errors.New("no route")})
	if !strings.Contains(err.Error(), "no route") || !strings.Contains(err.Error(), "evicted") {
		t.Errorf("%q", err)
	}
}
