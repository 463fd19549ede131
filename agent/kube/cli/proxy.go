package cli

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"ztm/apps"
	"ztm/tunnel/identity"
)

// proxyChange is a change of the proxy app's configuration, as its API has it.
type proxyChange struct {
	Listens *[]string         `json:"setListens,omitempty"`
	Targets []string          `json:"addTargets,omitempty"`
	Via     map[string]string `json:"via,omitempty"`
}

// proxyView is the configuration of the proxy app, as its API has it.
type proxyView struct {
	Endpoint string   `json:"endpoint"`
	Listens  []string `json:"listens"`
}

// names are the names of a cluster: all of them, or those of some namespaces.
type names struct {
	domain     string
	namespaces []string
}

// patterns returns the names as the proxy app's rules have them.
func (n names) patterns() (list []string) {
	for _, space := range n.namespaces {
		list = append(list, "*."+space+".svc."+n.domain)
	}
	if list == nil {
		list = []string{"*.svc." + n.domain}
	}
	return list
}

// check returns nil if domain and namespaces are names of DNS.
func (n names) check() error {
	for _, name := range append([]string{n.domain}, n.namespaces...) {
		if identity.CheckName(name) != nil || strings.Contains(name, "..") {
			return apps.Usagef("%q is no name of a cluster", name)
		}
	}
	return nil
}

// proxy leads names of a cluster through an endpoint in it. listen is where, if nothing listens yet.
func (c *client) proxy(ctx context.Context, name, listen string, n names) error {
	here, err := c.Endpoint(ctx)
	if err != nil {
		return err
	}
	var view proxyView
	if err := c.Call(ctx, http.MethodGet, "proxy/config", nil, &view); err != nil {
		return err
	}
	exit, err := c.Trusted(ctx, name)
	if err != nil {
		return err
	}
	if exit.User == here.User { // another user decides alone what leaves there
		if err := c.CallAt(ctx, exit.ID, http.MethodPatch, "proxy/config", proxyChange{Targets: n.patterns()}, nil); err != nil {
			return err
		}
	}
	change := proxyChange{Via: map[string]string{}}
	for _, p := range n.patterns() {
		change.Via[p] = string(exit.ID)
	}
	if len(view.Listens) == 0 {
		change.Listens = &[]string{listen}
	}
	if err := c.Call(ctx, http.MethodPatch, "proxy/config", change, &view); err != nil {
		return err
	}
	return c.Print(view, proxyUse(view.Listens, n, apps.Printable(exit.Name)))
}

// proxyUse says how programs use the proxy.
func proxyUse(listens []string, n names, exit string) *apps.Table {
	at := listens[0]
	host := "SERVICE.NAMESPACE.svc." + n.domain
	if len(n.namespaces) > 0 {
		host = "SERVICE." + n.namespaces[0] + ".svc." + n.domain
	}
	t := &apps.Table{Header: []string{"FOR", "USE"}}
	t.Add("names", strings.Join(n.patterns(), " ")+" through "+exit)
	t.Add("a shell", "export ALL_PROXY=socks5h://"+at)
	t.Add("a browser", "http://"+at+"/proxy.pac")
	t.Add("curl", fmt.Sprintf("curl -x socks5h://%s http://%s/", at, host))
	return t
}
