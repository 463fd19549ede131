package main

import (
	"fmt"
	"net"
	"net/http/httptest"
	"testing"

	"ztm/agent/kube/kubetest"
	"ztm/apps/appstest"
)

// serving returns the address of a server in a pod that says a word.
func serving(t *testing.T, word string) string {
	t.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort(podAddress(t), "0"))
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, ln, word)
	return ln.Addr().String()
}

// TestTwoClustersOfferOneName: connections go to both, to the one that is named, and to none that has
// nobody ready.
func TestTwoClustersOfferOneName(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	clusters := map[string]*kubetest.Server{}
	for _, name := range []string{"east", "west"} {
		c := &kubetest.Server{}
		server := httptest.NewServer(c)
		t.Cleanup(server.Close)
		putService(c, "web", `"ztm.dev/expose":"true"`, serving(t, name))
		w.startPod(t, name, server).ready()
		clusters[name] = c
	}
	listen := appstest.FreeAddress(t)
	w.ztm("root", "tunnel", "open", "inbound", "tcp/shop.web", "--listen", listen)
	// answers asks ten times, and says who answered.
	answers := func() (east, west bool, err error) {
		for range 10 {
			got, err := echo(listen, "")
			if err != nil {
				return false, false, err
			}
			east, west = east || got == "east", west || got == "west"
		}
		return east, west, nil
	}
	until := func(what string, wantEast, wantWest bool) {
		t.Helper()
		w.until(what, func() error {
			if east, west, err := answers(); err != nil || east != wantEast || west != wantWest {
				return fmt.Errorf("east: %v, west: %v, %v", east, west, err)
			}
			return nil
		})
	}
	until("both clusters answer", true, true)
	clusters["west"].Delete("/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/web-1")
	until("the one with a pod that is ready answers", true, false)
	putService(clusters["west"], "web", `"ztm.dev/expose":"true"`, serving(t, "west"))
	until("both answer again", true, true)
	w.ztm("root", "tunnel", "set", "inbound", "tcp/shop.web", "--exits", "kube-west")
	until("the one that is named answers", false, true)
}
