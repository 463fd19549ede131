package webtest

import (
	"strings"
	"testing"
)

func TestATunnelIsSwitchedOffAndOnAgain(t *testing.T) {
	w, b := one(t)
	w.ztm("laptop", "tunnel", "open", "outbound", "tcp/web", "--targets", "127.0.0.1:1")
	b.open("tunnels")
	b.click("Switch off")
	b.sees("The settings stay.", "ztm tunnel set outbound tcp/web --off")
	b.click("Switch off tcp/web")
	b.sees("switched off", "Switch on")
	if out := w.ztm("laptop", "get", "outbound"); !strings.Contains(out, " off") {
		t.Error(out)
	}
	b.click("Switch on")
	b.click("Switch on tcp/web")
	b.sees("Switch off")
	if out := w.ztm("laptop", "get", "outbound"); strings.Contains(out, " off") {
		t.Error(out)
	}
	b.clean()
}

func TestTheProxyPageSaysWhereAConnectionWouldGo(t *testing.T) {
	w, b := one(t)
	w.ztm("laptop", "proxy", "config", "--add-target", "*.corp.example.com", "--add-direct", "here.example.com")
	b.open("proxy")
	for host, want := range map[string]string{
		"a.corp.example.com:443": "as the most specific target", "here.example.com": "by the route here.example.com",
		"an.other.net": "Nowhere: no exit serves an.other.net", "0x7f.1": "The request makes no sense.",
	} {
		b.fill("Host", host)
		b.sees("ztm proxy where " + host)
		b.click("Ask")
		b.sees(want)
	}
	b.shot("where")
	b.clean("400")
}
