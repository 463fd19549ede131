package socks

import (
	"net/netip"
	"testing"

	"ztm/tunnel/answer"
)

func TestRepliesSayWhatHappened(t *testing.T) {
	for code, want := range map[answer.Code]reply{
		answer.Denied: 2, answer.Prohibited: 2, answer.NotFound: 3, answer.Unavailable: 3, answer.Broken: 3, answer.Unreachable: 4, answer.DNS: 4,
		answer.Refused: 5, answer.Timeout: 6, answer.Internal: 1, answer.BadRequest: 1, answer.Limit: 1,
	} {
		if got := replyTo(answer.Errorf(code, "x")); got != want {
			t.Errorf("%s: reply %d, want %d", code, got, want)
		}
	}
	if b := appendAddress(nil, netip.MustParseAddrPort("[fd00::1]:80")); len(b) != 19 || b[0] != addressIPv6 {
		t.Errorf("an IPv6 address is written %x", b)
	}
}
