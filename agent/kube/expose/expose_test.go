package expose

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"ztm/agent/kube/asked"
	"ztm/agent/kube/cluster"
)

// town makes the objects of a cluster.
type town struct {
	Objects
	rules Rules
}

func newTown() *town { return &town{rules: Rules{Prefix: "ztm.dev"}} }

// parse reads an object as an API server would send it.
func parse[T any](text string) T {
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		panic(err)
	}
	return v
}

// service adds a Service; notes are its annotations, "NAME=VALUE".
func (o *town) service(namespace, name, ports string, notes ...string) *cluster.Service {
	annotations := map[string]string{}
	for _, n := range notes {
		key, value, _ := strings.Cut(n, "=")
		annotations["ztm.dev/"+key] = value
	}
	b, _ := json.Marshal(annotations)
	o.Services = append(o.Services, parse[cluster.Service](fmt.Sprintf(
		`{"metadata":{"namespace":%q,"name":%q,"uid":"u%d","annotations":%s},"spec":{"type":"ClusterIP","clusterIP":"10.43.0.%d","ports":%s,"selector":{"a":"b"}}}`,
		namespace, name, len(o.Services), b, len(o.Services)+20, ports)))
	s := &o.Services[len(o.Services)-1]
	s.Created = time.Unix(int64(len(o.Services)), 0)
	return s
}

// slice adds a slice of the cluster's controller with ready pods at addresses.
func (o *town) slice(namespace, service, ports string, addresses ...string) *cluster.Slice {
	s := parse[cluster.Slice](fmt.Sprintf(`{"metadata":{"namespace":%q,"name":"%s-x","labels":{"kubernetes.io/service-name":%q,
		"endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io"}},"ports":%s}`, namespace, service, service, ports))
	for _, a := range addresses {
		s.Endpoints = append(s.Endpoints, cluster.Endpoint{Addresses: []string{a}, Target: &cluster.Target{Kind: "Pod", Name: "p", Namespace: namespace}})
	}
	o.Slices = append(o.Slices, s)
	return &o.Slices[len(o.Slices)-1]
}

func (o *town) namespace(name, meta string) {
	o.Namespaces = append(o.Namespaces, parse[cluster.Namespace](fmt.Sprintf(`{"metadata":{"name":%q%s}}`, name, meta)))
}

// want fails the test unless these are the outbounds, "KEY -> TARGETS".
func (o *town) want(t *testing.T, want ...string) Result {
	t.Helper()
	r := Compute(o.Objects, o.rules)
	got := []string{}
	for _, out := range r.Outbounds {
		line := out.Key() + " -> " + strings.Join(out.Targets, " ")
		if len(out.Users) > 0 {
			line += " for " + strings.Join(out.Users, " ")
		}
		got = append(got, line)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q\nnotes %v", got, want, r.Notes)
	}
	return r
}

// refusals counts the notes of refusals.
func refusals(r Result) (n int) {
	for _, note := range r.Notes {
		if note.Warns() {
			n++
		}
	}
	return n
}

const (
	http80    = `[{"port":80,"protocol":"TCP"}]`
	http8080  = `[{"name":"","port":8080,"protocol":"TCP"}]`
	twoPorts  = `[{"name":"http","port":80,"protocol":"TCP"},{"name":"admin","port":81,"protocol":"TCP"},{"name":"dns","port":53,"protocol":"UDP"}]`
	twoTarget = `[{"name":"http","port":8080,"protocol":"TCP"},{"name":"admin","port":8081,"protocol":"TCP"},{"name":"dns","port":5353,"protocol":"UDP"}]`
)

func TestAServiceIsExposedAtItsReadyPods(t *testing.T) {
	o := newTown()
	o.service("shop", "web", http80, "expose=true")
	o.service("shop", "private", http80)
	o.service("shop", "off", http80, "expose=false")
	s := o.slice("shop", "web", http8080, "10.42.0.9", "10.42.0.5", "10.42.0.7")
	s.Endpoints[2].Conditions.Ready = new(false)
	o.slice("shop", "private", http8080, "10.42.0.6")
	o.want(t, "tcp/shop.web -> 10.42.0.5:8080 10.42.0.9:8080")
}

func TestEachPortHasANameAndTheFirstOfAProtocolTheShortOne(t *testing.T) {
	o := newTown()
	s := o.service("shop", "web", twoPorts, "expose=true")
	o.slice("shop", "web", twoTarget, "10.42.0.5")
	o.want(t, "tcp/shop.web -> 10.42.0.5:8080", "tcp/shop.web.admin -> 10.42.0.5:8081", "tcp/shop.web.http -> 10.42.0.5:8080",
		"udp/shop.web -> 10.42.0.5:5353", "udp/shop.web.dns -> 10.42.0.5:5353")
	s.Annotations["ztm.dev/ports"] = "admin, 53"
	o.want(t, "tcp/shop.web -> 10.42.0.5:8081", "tcp/shop.web.admin -> 10.42.0.5:8081", "udp/shop.web -> 10.42.0.5:5353", "udp/shop.web.dns -> 10.42.0.5:5353")
	s.Annotations["ztm.dev/ports"] = "admin, no"
	if r := o.want(t, "tcp/shop.web -> 10.42.0.5:8081", "tcp/shop.web.admin -> 10.42.0.5:8081"); refusals(r) != 1 {
		t.Errorf("%v", r.Notes)
	}
}

func TestAServiceWithNobodyReadyIsThereWithoutTargets(t *testing.T) {
	o := newTown()
	o.service("shop", "web", http80, "expose=true")
	o.want(t, "tcp/shop.web -> ")
	s := o.slice("shop", "web", http8080, "10.42.0.5", "10.42.0.6")
	s.Endpoints[0].Conditions = cluster.Conditions{Ready: new(false), Serving: new(true), Terminating: new(true)}
	s.Endpoints[1].Conditions = cluster.Conditions{Ready: new(false), Serving: new(false), Terminating: new(true)}
	o.want(t, "tcp/shop.web -> 10.42.0.5:8080") // it ends, and serves until then
}

func TestANamespaceMayExposeAll(t *testing.T) {
	o := newTown()
	o.service("shop", "web", http80)
	o.service("shop", "off", http80, "expose=false")
	o.service("other", "web", http80)
	o.namespace("shop", `,"labels":{"ztm.dev/expose":"all"}`)
	o.namespace("other", "")
	o.want(t, "tcp/shop.web -> ")
}

func TestTheAddressOfTheServiceIsATargetWhereThatIsAskedFor(t *testing.T) {
	o := newTown()
	o.service("shop", "web", http80, "expose=true", "via=cluster")
	o.service("shop", "headless", http80, "expose=true", "via=cluster").Spec.ClusterIP = "None"
	if r := o.want(t, "tcp/shop.web -> 10.43.0.20:80"); refusals(r) != 1 {
		t.Errorf("%v", r.Notes)
	}
}

func TestUsersAreThoseWhoMayBeNamed(t *testing.T) {
	o := newTown()
	o.rules.Users = []string{"carol"}
	o.namespace("shop", `,"annotations":{"ztm.dev/allow-users":"alice,bob"}`)
	o.service("shop", "a", http80, "expose=true", "users=bob, alice")
	o.service("shop", "b", http80, "expose=true", "users=mallory")
	o.service("other", "c", http80, "expose=true", "users=carol")
	o.service("other", "d", http80, "expose=true", "users=alice")
	o.service("other", "e", http80, "expose=true", "users=carol,\x00x")
	if r := o.want(t, "tcp/other.c ->  for carol", "tcp/shop.a ->  for alice bob"); refusals(r) != 3 {
		t.Errorf("%v", r.Notes)
	}
}

// A user of namespace a must not get the connections that are for another one's.
func TestNobodyTakesANameThatIsNotTheirs(t *testing.T) {
	o := newTown()
	o.service("a", "first", http80, "expose=b.web")
	o.service("a", "second", http80, "expose=web")
	o.service("c", "third", http80, "expose=web")
	o.service("c", "fourth", http80, "expose=web")
	o.service("c", "fifth", http80, "expose=b.web")
	o.service("b", "web", http80, "expose=true")
	o.namespace("a", "")
	o.namespace("c", `,"annotations":{"ztm.dev/allow-names":"web, b.*"}`)
	r := o.want(t, "tcp/b.web -> ", "tcp/web -> ")
	if r.Of["tcp/b.web"].Namespace != "b" || r.Of["tcp/web"].Name != "third" || refusals(r) != 4 {
		t.Errorf("%v\n%v", r.Of, r.Notes)
	}
}

// Whoever may write slices or Services of a namespace could point anywhere.
func TestOnlyPodsOfTheOwnNamespaceAreTargets(t *testing.T) {
	for name, spoil := range map[string]func(o *town, s *cluster.Slice){
		"a slice of somebody else":     func(_ *town, s *cluster.Slice) { s.Labels[cluster.LabelManagedBy] = "me" },
		"a pod of another namespace":   func(_ *town, s *cluster.Slice) { s.Endpoints[0].Target.Namespace = "other" },
		"a node":                       func(_ *town, s *cluster.Slice) { s.Endpoints[0].Target.Kind = "Node" },
		"nothing":                      func(_ *town, s *cluster.Slice) { s.Endpoints[0].Target = nil },
		"loopback":                     func(_ *town, s *cluster.Slice) { s.Endpoints[0].Addresses = []string{"127.0.0.1"} },
		"loopback as IPv6":             func(_ *town, s *cluster.Slice) { s.Endpoints[0].Addresses = []string{"::ffff:127.0.0.1"} },
		"link-local, the cloud's data": func(_ *town, s *cluster.Slice) { s.Endpoints[0].Addresses = []string{"169.254.169.254"} },
		"no address":                   func(_ *town, s *cluster.Slice) { s.Endpoints[0].Addresses = []string{"db.example"} },
		"a zone":                       func(_ *town, s *cluster.Slice) { s.Endpoints[0].Addresses = []string{"fd00::1%eth0"} },
		"an address that is excluded":  func(_ *town, s *cluster.Slice) { s.Endpoints[0].Addresses = []string{"10.42.9.9"} },
		"the API server": func(o *town, s *cluster.Slice) {
			s.Endpoints[0].Addresses = []string{"192.168.1.1"}
			o.slice("default", "kubernetes", `[{"name":"https","port":6443,"protocol":"TCP"}]`, "192.168.1.1")
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := newTown()
			o.rules.Exclude = []netip.Prefix{netip.MustParsePrefix("10.42.9.9/32")}
			o.service("shop", "web", http80, "expose=true")
			spoil(o, o.slice("shop", "web", http8080, "10.42.0.5"))
			o.want(t, "tcp/shop.web -> ")
		})
	}
}

func TestWhatIsNoServiceIsRefusedAndTheOthersGoOn(t *testing.T) {
	o := newTown()
	o.service("shop", "ok", http80, "expose=true")
	o.service("shop", "external", http80, "expose=true").Spec.Type = "ExternalName"
	o.service("shop", "noports", `[]`, "expose=true")
	o.service("shop", "sctp", `[{"port":7,"protocol":"SCTP"}]`, "expose=true")
	o.service("shop", "badname", http80, "expose=a b")
	o.service("shop", "badvia", http80, "expose=true", "via=x")
	o.service("shop", "long", http80, "expose="+strings.Repeat("a,", 4000))
	o.service("shop", strings.Repeat("x", 63), http80, "expose=true")
	o.service("default", "kubernetes", http80, "expose=true")
	if r := o.want(t, "tcp/shop.ok -> "); refusals(r) != 8 {
		t.Errorf("%d refusals: %v", refusals(r), r.Notes)
	}
}

func TestTheOrderOfObjectsChangesNothing(t *testing.T) {
	o := newTown()
	for i := range 40 {
		o.service("a", fmt.Sprint("s", i), http80, "expose=name"+fmt.Sprint(i%7))
		o.slice("a", fmt.Sprint("s", i), http8080, fmt.Sprintf("10.42.1.%d", i), fmt.Sprintf("10.42.2.%d", i))
	}
	o.namespace("a", `,"annotations":{"ztm.dev/allow-names":"name*"}`)
	want := Compute(o.Objects, o.rules)
	if len(want.Outbounds) != 7 {
		t.Fatalf("%d outbounds", len(want.Outbounds))
	}
	for range 20 {
		rand.Shuffle(len(o.Services), func(i, j int) { o.Services[i], o.Services[j] = o.Services[j], o.Services[i] })
		rand.Shuffle(len(o.Slices), func(i, j int) { o.Slices[i], o.Slices[j] = o.Slices[j], o.Slices[i] })
		if got := Compute(o.Objects, o.rules); !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %v\nwant %v", got, want)
		}
	}
}

func FuzzAnnotations(f *testing.F) {
	f.Add("true", "alice,bob", "http", "cluster")
	f.Add("web\n", "a,,,,", "80 81", "\x00")
	f.Fuzz(func(t *testing.T, expose, users, ports, via string) {
		o := newTown()
		o.namespace("shop", `,"annotations":{"ztm.dev/allow-names":"*","ztm.dev/allow-users":"*"}`)
		s := o.service("shop", "web", twoPorts)
		s.Annotations = cluster.Notes{"ztm.dev/expose": expose, "ztm.dev/users": users, "ztm.dev/ports": ports, "ztm.dev/via": via}
		for _, out := range Compute(o.Objects, o.rules).Outbounds {
			if !asked.Valid(out.Name) || len(out.Name) > asked.MaxName || len(out.Users) > maxUsers {
				t.Errorf("%+v", out)
			}
		}
	})
}

func TestAServiceExportExposesTheServiceOfItsName(t *testing.T) {
	o := newTown()
	o.service("shop", "web", http80)
	o.service("shop", "quiet", http80, "expose=false")
	o.service("stock", "web", http80)
	o.service("default", "kubernetes", http80)
	for _, e := range []string{`"shop","name":"web"`, `"shop","name":"quiet"`, `"shop","name":"missing"`, `"default","name":"kubernetes"`} {
		o.Exports = append(o.Exports, parse[cluster.Export](`{"metadata":{"namespace":`+e+`}}`))
	}
	var got []string
	for _, out := range Compute(o.Objects, o.rules).Outbounds {
		got = append(got, out.Key())
	}
	if !slices.Equal(got, []string{"tcp/shop.web"}) {
		t.Errorf("%q", got)
	}
}
