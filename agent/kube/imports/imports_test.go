package imports

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ztm/agent/kube/cluster"
)

var pod = Pod{Name: "ztm-0", Namespace: "ztm", UID: "0123456789abcdef", Node: "node-1",
	Addresses: []netip.Addr{netip.MustParseAddr("10.42.0.7"), netip.MustParseAddr("fd00::7")}}

const one = `[{"port":80,"protocol":"TCP"}]`

// service is a Service without a selector that imports.
func service(name, value, ports string) cluster.Service {
	var s cluster.Service
	text := fmt.Sprintf(`{"metadata":{"namespace":"shop","name":%q,"uid":"uid-%s","annotations":{"ztm.dev/import":%q}},
		"spec":{"type":"ClusterIP","clusterIP":"10.43.0.5","ports":%s}}`, name, name, value, ports)
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		panic(err)
	}
	return s
}

func namespace(allow string) []cluster.Namespace {
	return []cluster.Namespace{{Meta: cluster.Meta{Name: "shop", Annotations: cluster.Notes{"ztm.dev/allow-import": allow}}}}
}

// tunnels returns what is imported, "SERVICE: TUNNELS".
func tunnels(r Result) (list []string) {
	for _, i := range r.Imports {
		list = append(list, i.Service.Name+": "+strings.Join(i.tunnels(), " "))
	}
	return list
}

func TestAServiceStandsForTheTunnelThatItNames(t *testing.T) {
	rules := Rules{Prefix: "ztm.dev", Pod: pod}
	ports := `[{"name":"http","port":80},{"name":"dns","port":53,"protocol":"UDP"},{"name":"x","port":9}]`
	r := Compute([]cluster.Service{
		service("a", "prod.web", one), service("b", "tcp/prod.web@cluster-b", one), service("c", "http=prod.web@cluster-b, 53=udp/prod.dns", ports),
	}, nil, namespace("prod.*"), rules)
	want := []string{"a: tcp/prod.web"} // b and c want it from another endpoint
	if got := tunnels(r); !slices.Equal(got, want) || len(r.Notes) != 3 {
		t.Errorf("%q, %v", got, r.Notes)
	}
	r = Compute([]cluster.Service{service("b", "tcp/prod.web@cluster-b", one), service("c", "http=prod.web@cluster-b, 53=udp/prod.dns", ports)}, nil, namespace("prod.*"), rules)
	want = []string{"b: tcp/prod.web@cluster-b", "c: tcp/prod.web@cluster-b udp/prod.dns"}
	if got := tunnels(r); !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, r.Notes)
	}
}

// Each of these could catch connections that are for somebody else, or means nothing.
func TestWhatMayNotImportIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(*cluster.Service) (allow string, slices []cluster.Slice){
		"not allowed": func(s *cluster.Service) (string, []cluster.Slice) { return "other", nil },
		"a selector": func(s *cluster.Service) (string, []cluster.Slice) {
			s.Spec.Selector = json.RawMessage(`{"app":"web"}`)
			return "*", nil
		},
		"headless":     func(s *cluster.Service) (string, []cluster.Slice) { s.Spec.ClusterIP = "None"; return "*", nil },
		"ExternalName": func(s *cluster.Service) (string, []cluster.Slice) { s.Spec.Type = "ExternalName"; return "*", nil },
		"exposed too": func(s *cluster.Service) (string, []cluster.Slice) {
			s.Annotations["ztm.dev/expose"] = "true"
			return "*", nil
		},
		"a slice of somebody else": func(s *cluster.Service) (string, []cluster.Slice) {
			return "*", []cluster.Slice{{Meta: cluster.Meta{Namespace: "shop", Name: "x", Labels: cluster.Notes{cluster.LabelService: "web", cluster.LabelManagedBy: cluster.Controller}}}}
		},
		"SCTP":            func(s *cluster.Service) (string, []cluster.Slice) { s.Spec.Ports[0].Protocol = "SCTP"; return "*", nil },
		"too many":        func(s *cluster.Service) (string, []cluster.Slice) { return note(s, "a,b") },
		"no such port":    func(s *cluster.Service) (string, []cluster.Slice) { return note(s, "81=a") },
		"no name":         func(s *cluster.Service) (string, []cluster.Slice) { return note(s, "a/b") },
		"no endpoint":     func(s *cluster.Service) (string, []cluster.Slice) { return note(s, "a@") },
		"wrong protocol":  func(s *cluster.Service) (string, []cluster.Slice) { return note(s, "udp/a") },
		"commas":          func(s *cluster.Service) (string, []cluster.Slice) { return note(s, ",,,") },
		"very long":       func(s *cluster.Service) (string, []cluster.Slice) { return note(s, strings.Repeat("a", 5000)) },
		"not printable":   func(s *cluster.Service) (string, []cluster.Slice) { return note(s, "a\x00b") },
		"more than ASCII": func(s *cluster.Service) (string, []cluster.Slice) { return note(s, "größe") },
	} {
		t.Run(name, func(t *testing.T) {
			s := service("web", "prod.web", one)
			allow, slices := spoil(&s)
			r := Compute([]cluster.Service{s}, slices, namespace(allow), Rules{Prefix: "ztm.dev", Pod: pod})
			if len(r.Imports) != 0 || len(r.Notes) != 1 || !r.Notes[0].Warns() {
				t.Errorf("%q, %v", tunnels(r), r.Notes)
			}
		})
	}
}

func note(s *cluster.Service, value string) (string, []cluster.Slice) {
	s.Annotations["ztm.dev/import"] = value
	return "*", nil
}

func TestTheOlderServiceKeepsItsTunnel(t *testing.T) {
	young, old := service("a", "web@x", one), service("b", "web@y", one)
	young.Created, old.Created = time.Unix(2, 0), time.Unix(1, 0)
	r := Compute([]cluster.Service{young, old}, nil, nil, Rules{Prefix: "ztm.dev", Allow: []string{"web"}, Pod: pod})
	if got := tunnels(r); !slices.Equal(got, []string{"b: tcp/web@y"}) {
		t.Errorf("%q", got)
	}
}

func TestASliceForEachFamilyLeadsToThisPod(t *testing.T) {
	i := Import{Service: cluster.Meta{Name: "web", Namespace: "shop"}, Ports: []Port{{"http", "tcp", "a", ""}, {"dns", "udp", "b", ""}, {"no", "tcp", "c", ""}}}
	at := map[string]int{"tcp/a": 20001, "udp/b": 20002}
	list := Slices(i, pod, func(key string) int { return at[key] })
	if len(list) != 2 || list[0].Endpoints[0].Addresses[0] != "10.42.0.7" || list[1].Endpoints[0].Addresses[0] != "fd00::7" || len(list[0].Ports) != 2 {
		t.Fatalf("%+v", list)
	}
	b, err := json.Marshal(list[0])
	var there cluster.Slice
	if err != nil || json.Unmarshal(b, &there) != nil || !list[0].Same(there) || list[1].Same(there) {
		t.Errorf("%s", b)
	}
	there.Ports[0].Port++
	if list[0].Same(there) {
		t.Error("another port is the same")
	}
	if strings.Contains(string(b), "ownerReferences") {
		t.Error("a slice of another namespace has the pod as its owner: the cluster would remove it")
	}
	i.Service.Namespace = pod.Namespace
	if own := Slices(i, pod, func(string) int { return 1 }); own[0].Metadata.Owners[0].UID != pod.UID {
		t.Errorf("%+v", own[0].Metadata)
	}
}

func FuzzImport(f *testing.F) {
	f.Add("tcp/web@ep")
	f.Add("http=a,dns=udp/b")
	f.Fuzz(func(t *testing.T, value string) {
		s := service("web", "", `[{"name":"http","port":80},{"name":"dns","port":53,"protocol":"UDP"}]`)
		s.Annotations["ztm.dev/import"] = value
		for _, i := range Compute([]cluster.Service{s}, nil, namespace("*"), Rules{Prefix: "ztm.dev", Pod: pod}).Imports {
			if len(i.Ports) == 0 || len(i.Ports) > 2 {
				t.Errorf("%+v", i)
			}
		}
	})
}
