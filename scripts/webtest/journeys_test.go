package webtest

import "testing"

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
