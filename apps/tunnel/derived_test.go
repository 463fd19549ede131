package tunnel_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"ztm/apps/appstest"
	"ztm/apps/tunnel"
	"ztm/apps/tunnel/tunneltest"
	"ztm/tunnel/answer"
)

// derive makes the outbounds the whole set of owner kubernetes, and returns which were refused.
func derive(t *testing.T, e *tunneltest.Endpoint, outbounds ...string) map[string]string {
	t.Helper()
	var out tunnel.DerivedAnswer
	e.MustCall(t, "PUT", "/derived/kubernetes", `{"outbound":[`+strings.Join(outbounds, ",")+`]}`, &out)
	return out.Refused
}

func derived(name, target string) string {
	return fmt.Sprintf(`{"protocol":"tcp","name":%q,"targets":[%q]}`, name, target)
}

func TestADerivedOutboundKeepsItsFlowsUntilItIsGone(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	web, db := tunneltest.Server(t, "web"), tunneltest.Server(t, "db")
	if refused := derive(t, b, derived("shop.web", web), derived("shop.db", db)); len(refused) != 0 {
		t.Fatal(refused)
	}
	c := tunneltest.Dial(t, a.Listen(t, "tcp/shop.web"))
	if got, err := tunneltest.ReadLine(c); got != "web" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	derive(t, b, derived("shop.web", web))
	io.WriteString(c, "still here\n")
	if got, err := tunneltest.ReadLine(c); got != "still here" || err != nil {
		t.Fatalf("the flow of an outbound that stays: %q, %v", got, err)
	}
	if keys, err := b.State.Keys("outbound/"); len(keys) != 0 || err != nil {
		t.Errorf("saved: %q, %v", keys, err)
	}
	derive(t, b)
	if got, err := tunneltest.ReadLine(c); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the flow of an outbound that is gone: %q, %v", got, err)
	}
	if got := b.Self().Offers; len(got) != 0 {
		t.Errorf("offered: %q", got)
	}
}

func TestADerivedOutboundWithoutTargetsRefusesAndKeepsItsFlows(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	derive(t, b, derived("web", tunneltest.Server(t, "web")))
	entrance := a.Listen(t, "tcp/web")
	c := tunneltest.Dial(t, entrance)
	if got, err := tunneltest.ReadLine(c); got != "web" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	if refused := derive(t, b, `{"protocol":"tcp","name":"web"}`); len(refused) != 0 {
		t.Fatal(refused)
	}
	if fresh, err := net.Dial("tcp", entrance); err == nil { // the refusal may come before Dial returns
		defer fresh.Close()
		if got, err := tunneltest.ReadLine(fresh); err == nil {
			t.Errorf("a new flow got %q", got)
		}
	}
	io.WriteString(c, "still here\n")
	if got, err := tunneltest.ReadLine(c); got != "still here" || err != nil {
		t.Errorf("the flow that was there: %q, %v", got, err)
	}
}

func TestWhatIsDerivedAndWhatIsSetByHandLeaveEachOtherAlone(t *testing.T) {
	var n appstest.Net
	b := tunneltest.Join(t, &n, "b", "alice")
	b.Offer(t, "tcp/mine", "127.0.0.1:1")
	refused := derive(t, b, derived("mine", "127.0.0.1:2"), derived("theirs", "127.0.0.1:3"), derived("..", "127.0.0.1:4"))
	if len(refused) != 2 || refused["tcp/mine"] == "" || refused["tcp/.."] == "" {
		t.Errorf("refused: %q", refused)
	}
	if got := b.OutboundStatus(t, "tcp/mine").Targets[0].String(); got != "127.0.0.1:1" {
		t.Errorf("the outbound that was set by hand has target %s", got)
	}
	for _, call := range [][2]string{{"POST", `{"targets":["127.0.0.1:9"]}`}, {"DELETE", ""}} {
		if err := b.Call(call[0], "/outbound/tcp/theirs", call[1], nil); answer.CodeOf(err) != answer.Conflict {
			t.Errorf("%s of a derived outbound: %v", call[0], err)
		}
	}
	var other tunnel.DerivedAnswer
	b.MustCall(t, "PUT", "/derived/other", `{"outbound":[`+derived("theirs", "127.0.0.1:5")+`]}`, &other)
	if other.Refused["tcp/theirs"] == "" {
		t.Error("another owner took the name")
	}
	if err := b.Call("PUT", "/derived/a%20b", `{"outbound":[]}`, nil); answer.CodeOf(err) != answer.BadRequest {
		t.Errorf("an owner whose name has a space: %v", err)
	}
}

func TestMoreOutboundsThanARecordHoldsAreFoundByName(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	c := tunneltest.Join(t, &n, "c", "alice")
	many := []string{derived("web", tunneltest.Server(t, "web of b"))}
	for i := range 999 {
		many = append(many, derived(fmt.Sprint("s", i), "127.0.0.1:1"))
	}
	if refused := derive(t, b, many...); len(refused) != 0 {
		t.Fatalf("%d are refused", len(refused))
	}
	if got := b.Self().Offers; !slices.Equal(got, []string{"tunnel/tcp/*"}) {
		t.Errorf("offered: %q", got)
	}
	derive(t, c, append(many[1:], derived("other", "127.0.0.1:1"))...) // it has no tcp/web
	for range 4 {
		conn := tunneltest.Dial(t, a.Listen(t, "tcp/web"))
		if got, err := tunneltest.ReadLine(conn); got != "web of b" || err != nil {
			t.Fatalf("got %q, %v", got, err)
		}
		a.MustCall(t, "DELETE", "/inbound/tcp/web", "", nil)
	}
}

func TestAnOfferOfEverythingGetsInNobodysWay(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "bob")
	m := tunneltest.Join(t, &n, "m", "mallory")
	b.MustCall(t, "POST", "/outbound/tcp/web", fmt.Sprintf(`{"targets":[%q],"users":["alice"]}`, tunneltest.Server(t, "bob's")), nil)
	var many []string
	for i := range 300 {
		many = append(many, derived(fmt.Sprint("s", i), "127.0.0.1:1"))
	}
	many = append(many, fmt.Sprintf(`{"protocol":"tcp","name":"web","targets":[%q],"users":["alice"]}`, tunneltest.Server(t, "mallory's")))
	derive(t, m, many...)
	conn := tunneltest.Dial(t, a.Listen(t, "tcp/web"))
	if got, err := tunneltest.ReadLine(conn); got != "bob's" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestADerivedInboundListensUntilItIsGone(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	b.Offer(t, "tcp/web", tunneltest.Server(t, "web"))
	a.Listen(t, "tcp/mine")
	listen := appstest.FreeAddress(t)
	put := func(inbounds ...string) map[string]string {
		var out tunnel.DerivedAnswer
		a.MustCall(t, "PUT", "/derived/kubernetes", `{"inbound":[`+strings.Join(inbounds, ",")+`]}`, &out)
		return out.RefusedInbound
	}
	web := fmt.Sprintf(`{"protocol":"tcp","name":"web","listens":[%q]}`, listen)
	refused := put(web, web, fmt.Sprintf(`{"protocol":"tcp","name":"mine","listens":[%q]}`, appstest.FreeAddress(t)),
		fmt.Sprintf(`{"protocol":"tcp","name":"other","listens":[%q]}`, listen))
	if len(refused) != 3 {
		t.Errorf("refused: %q", refused)
	}
	c := tunneltest.Dial(t, listen)
	if got, err := tunneltest.ReadLine(c); got != "web" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	put(web)
	io.WriteString(c, "still here\n")
	if got, err := tunneltest.ReadLine(c); got != "still here" || err != nil {
		t.Errorf("the flow of an inbound that stays: %q, %v", got, err)
	}
	if keys, err := a.State.Keys("inbound/"); len(keys) != 1 || err != nil {
		t.Errorf("saved: %q, %v", keys, err)
	}
	if err := a.Call("DELETE", "/inbound/tcp/web", "", nil); answer.CodeOf(err) != answer.Conflict {
		t.Errorf("a derived inbound was deleted: %v", err)
	}
	put()
	if got, err := tunneltest.ReadLine(c); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the flow of an inbound that is gone: %q, %v", got, err)
	}
}
