package offer

import "testing"

func TestAnOfferOfAllNamesStandsForThoseBesideIt(t *testing.T) {
	offers := []string{"tunnel/tcp/*", "tunnel/udp/dns", "proxy/exit"}
	for name, want := range map[string][2]bool{
		"tunnel/udp/dns": {true, false}, "tunnel/tcp/web": {false, true}, "tunnel/tcp/*": {true, false},
		"tunnel/udp/web": {}, "tunnel/tcp/a/b": {}, "proxy/other": {}, "tcp": {}, "": {},
	} {
		if named, perhaps := Has(offers, name); [2]bool{named, perhaps} != want {
			t.Errorf("%q: named %v, perhaps %v", name, named, perhaps)
		}
	}
}
