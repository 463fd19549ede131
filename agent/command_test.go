package agent

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"ztm/agent/control"
	"ztm/apps"
	"ztm/tunnel"
)

func TestPasswordOfAProxyIsNotTakenFromTheCommandLine(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://me:secret@proxy:3128")
	for _, option := range []string{"http://me:secret@proxy:3128", "socks5://me:sec%ret@proxy:1080", "me:secret@proxy:3128", "http://secret@proxy:3128"} {
		_, err := proxyOf(option)
		var hint *apps.HintError
		if !errors.As(err, new(*apps.UsageError)) || !errors.As(err, &hint) || strings.Contains(err.Error()+hint.Hint, "secret") {
			t.Errorf("--proxy %s: %v", option, err)
		}
	}
	if p, err := proxyOf("http://other:3128"); err != nil || p.URL.Host != "other:3128" {
		t.Errorf("the option is more than the environment: %v, %v", p, err)
	}
	if p, err := proxyOf(""); err != nil || p.URL.User == nil {
		t.Errorf("the environment may hold one: %v, %v", p, err)
	}
}

func TestWhatTheProxyRefusesIsNotSaidOfTheHub(t *testing.T) {
	refused := fmt.Errorf("dial: %w", syscall.ECONNREFUSED)
	hub := control.HubError("hub:1", refused).Error()
	proxy := control.HubError("hub:1", &tunnel.ProxyError{Proxy: "proxy:2", Err: refused}).Error()
	if blame := "hub hub:1 refuses"; !strings.Contains(hub, blame) || strings.Contains(proxy, blame) || !strings.Contains(proxy, "proxy proxy:2") {
		t.Errorf("of the hub: %s; of the proxy: %s", hub, proxy)
	}
}
