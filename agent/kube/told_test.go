package kube

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"ztm/agent/kube/asked"
	"ztm/agent/kube/kubetest"
)

// condition returns our condition of a Service, "STATUS REASON MESSAGE".
func (l *lab) condition(service string) string {
	status, _ := l.Get("/api/v1/namespaces/shop/services/" + service)["status"].(kubetest.Object)
	list, _ := status["conditions"].([]any)
	if len(list) == 0 {
		return ""
	}
	c := list[0].(kubetest.Object)
	return fmt.Sprint(c["status"], " ", c["reason"], " ", c["message"])
}

// TestTheStatusOfAServiceSaysWhatBecameOfIt: once, however often all is looked at again.
func TestTheStatusOfAServiceSaysWhatBecameOfIt(t *testing.T) {
	inLabWith(t, func(c *Config) { c.Conditions = true }, func(t *testing.T, l *lab) {
		l.service("shop", "web", `"ztm.dev/expose":"true"`)
		l.service("shop", "bad", `"ztm.dev/expose":"true","ztm.dev/users":"mallory"`)
		l.service("shop", "quiet", "")
		pass(10 * time.Second)
		if got := l.condition("web"); got != "True Exposed exposed as tcp/shop.web" {
			t.Errorf("web: %q", got)
		}
		if got := l.condition("bad"); !strings.HasPrefix(got, "False ExposeRefused user mallory may not be named here") {
			t.Errorf("bad: %q", got)
		}
		if got := l.condition("quiet"); got != "" {
			t.Errorf("quiet: %q", got)
		}
		pass(time.Hour)
		writes := 0
		for _, r := range l.Requests() {
			if strings.HasPrefix(r, "PATCH ") {
				writes++
			}
		}
		if writes != 2 {
			t.Errorf("%d writes", writes)
		}
		l.service("shop", "web", "")
		pass(10 * time.Second)
		if got := l.condition("web"); got != "" {
			t.Errorf("web is not exposed any longer: %q", got)
		}
	})
}

// TestWhatDoesNotHoldAnyMoreIsNotTold: many events wait, and meanwhile their Services go.
func TestWhatDoesNotHoldAnyMoreIsNotTold(t *testing.T) {
	inLab(t, nil, func(t *testing.T, l *lab) {
		const many = 100
		for i := range many {
			l.service("shop", fmt.Sprint("s", i), `"ztm.dev/expose":"true"`)
		}
		pass(time.Second)
		for i := range many {
			l.Delete(fmt.Sprint("/api/v1/namespaces/shop/services/s", i))
		}
		pass(10 * time.Minute)
		if got := l.events(asked.Exposed); got > eventBurst+5 {
			t.Errorf("%d events", got)
		}
	})
}
