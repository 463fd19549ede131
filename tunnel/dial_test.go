package tunnel

import (
	"crypto/tls"
	"testing"
)

func TestAHandshakeNamesTheHostThatWasDialled(t *testing.T) {
	for _, tt := range []struct{ address, said, want string }{
		{"hub.example.com:8888", "", "hub.example.com"},
		{"[2001:db8::1]:8888", "", "2001:db8::1"}, // which crypto/tls does not send
		{"192.0.2.1:8888", "hub2.example.com", "hub2.example.com"},
		{"nothing", "", ""},
	} {
		config := &tls.Config{ServerName: tt.said}
		if got := named(config, tt.address).ServerName; got != tt.want || config.ServerName != tt.said {
			t.Errorf("%s: %q, and the caller's %q", tt.address, got, config.ServerName)
		}
	}
}
