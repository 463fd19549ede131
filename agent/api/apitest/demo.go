package apitest

import (
	"time"

	"ztm/agent/api"
	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// IDs of the mesh that [Demo] describes.
var (
	MeshID   = identity.IDOf([]byte("mesh"))
	HubID    = identity.IDOf([]byte("hub"))
	LaptopID = identity.IDOf([]byte("laptop")) // the agent's own endpoint
	NasID    = identity.IDOf([]byte("nas"))
	PhoneID  = identity.IDOf([]byte("phone"))
)

// Demo is the answers of an agent that has joined one mesh, "demo", as "laptop" of root. It knows
// two more endpoints: root's "nas", which offers two tunnels, and bob's "phone", which is offline.
func Demo() map[string]any {
	mesh := api.Mesh{
		Name: "demo", ID: MeshID, Hubs: []string{"hub.example.com:8888"}, Status: api.Connected, Signer: true, Trust: 3,
		Agent: api.Agent{ID: LaptopID, Name: "laptop", User: "root", Labels: []string{"web"}, NotAfter: at(1800000000)},
	}
	laptop := apps.Endpoint{
		ID: LaptopID, Name: "laptop", User: "root", Labels: []string{"web"}, Version: "v1.0.0", Signer: true,
		Address: "192.0.2.1:36938", Online: true, Local: true, Seen: at(1700000000),
	}
	nas := apps.Endpoint{
		ID: NasID, Name: "nas", User: "root", Labels: []string{"a", "b", "c", "d"}, Offers: []string{"tunnel/tcp/ssh", "tunnel/tcp/web"},
		Version: "v1.0.0", Address: "[2001:db8::1]:5000", Online: true, Seen: at(1700000060),
	}
	phone := apps.Endpoint{ID: PhoneID, Name: "phone", User: "bob", Seen: at(1600000000)}
	all := []apps.Endpoint{laptop, nas, phone}
	const m = "demo"
	named := func(name string) string { return "GET " + api.EndpointsPath(m, apps.Filter{Name: name}) }
	return map[string]any{
		"GET " + api.VersionPath:            api.Version{Tag: "v1.0.0"},
		"GET " + api.IdentityPath:           "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----\n",
		"GET " + api.MeshesPath:             []api.Mesh{mesh},
		"GET " + api.MeshPath(m):            mesh,
		"POST " + api.MeshPath(m):           mesh,
		"DELETE " + api.MeshPath(m):         nil,
		"POST " + api.HubPermitPath(m):      map[string]string{"ca": "..."},
		"POST " + api.PermitPath(m, "bob"):  map[string]string{"ca": "..."},
		"POST " + api.PermitPath(m, "root"): answer.Errorf(answer.Denied, "only root may invite root"),
		"DELETE " + api.UserPath(m, "bob"):  api.Evicted{User: "bob", Version: 4, Endpoints: 1},
		"POST " + api.CAPath(m):             map[string]string{"ca": "new"},
		"GET " + api.CAPath(m):              map[string]string{"ca": "again"},
		"GET " + api.UsersPath(m):           []api.User{{Name: "bob", Endpoints: []string{"phone"}}, {Name: "root", Endpoints: []string{"laptop", "nas"}}},
		"GET " + api.EvictionsPath(m): []api.Eviction{
			{User: "eve", Admitted: at(1700000000), At: at(1700000000), By: LaptopID, ByName: "laptop", Reason: "left"},
			{ID: PhoneID, Name: "old-phone", Owner: "bob", Admitted: at(1700000000), At: at(1700000000), By: LaptopID, ByName: "laptop"},
			{ID: HubID, Hub: true, Admitted: at(1700000000)},
		},
		"GET " + api.EndpointPath(m, NasID, "evictions"):                  []api.Eviction{},
		"DELETE " + api.EvictDevicePath(m, PhoneID, false, false, "lost"): api.Evicted{User: "bob", ID: PhoneID, Name: "phone", Version: 5},
		"DELETE " + api.EvictDevicePath(m, HubID, true, true, ""):         api.Evicted{ID: HubID, Version: 6},
		"PUT " + api.HubsPath(m):                                          nil,
		"GET " + api.HubsPath(m):                                          []api.Hub{{ID: HubID, Address: "hub.example.com:8888", Names: []string{"hub.example.com:8888"}, Zone: "eu", Status: api.Attached, Connected: true, Version: "v1.0.0", RTT: 1.25, Agents: 2, Relays: 1, Since: at(1700000000)}},
		"GET " + api.EndpointPath(m, NasID, "mesh"): api.Mesh{
			Name: "demo", ID: MeshID, Hubs: []string{"hub.example.com:8888"}, Status: api.Connected, Trust: 3,
			Agent: api.Agent{ID: NasID, Name: "nas", User: "root"},
		},
		"GET " + api.EndpointPath(m, NasID, "identity"):                   "-----BEGIN PUBLIC KEY-----\nOf the nas\n-----END PUBLIC KEY-----\n",
		"GET " + api.EndpointPath(m, NasID, "hubs"):                       []api.Hub{{Address: "hub.example.com:8888", Status: api.Unreachable, Error: "hub hub.example.com:8888: i/o timeout"}, {Address: "other:1", Status: api.HubStandby, RTT: 20}},
		"GET " + api.EndpointPath(m, NasID, "users"):                      []api.User{{Name: "root", Endpoints: []string{"nas"}}},
		"GET " + api.ViewPath(m, NasID, apps.Filter{}):                    []apps.Endpoint{nas},
		"GET " + api.EndpointPath(m, NasID, "endpoints", string(PhoneID)): api.Endpoint{Endpoint: phone},
		"GET " + api.EndpointPath(m, NasID, "ping", string(LaptopID)): []api.Hop{
			{Type: "Endpoint", ID: NasID, Name: "nas"},
			{Type: "Hub", ID: HubID, Name: "hub.example.com:8888", RTT: 1.25},
			{Type: "Endpoint", ID: LaptopID, Name: "laptop", RTT: 23.4},
		},
		"GET " + api.EndpointPath(m, NasID, "log"): []api.LogEntry{
			{Time: time.Unix(1700000000, 0).UTC(), Level: "WARN", Message: "a flow failed", Attrs: map[string]string{"peer": string(LaptopID), "err": "no way\x1b[31m", "flow": "tcp/web"}},
		},
		"DELETE " + api.NamePath(m, "nas"):              nil,
		"DELETE " + api.EvictPath(m, "typo", false, ""): answer.Errorf(answer.NotFound, "nobody in mesh demo is user typo"),
		"DELETE " + api.EvictPath(m, "typo", true, ""):  api.Evicted{User: "typo", Version: 5},
		"GET " + api.EndpointsPath(m, apps.Filter{}):    all,
		named("laptop"):                        []apps.Endpoint{laptop},
		named("nas"):                           []apps.Endpoint{nas},
		named("phone"):                         []apps.Endpoint{phone},
		named("nobody"):                        []apps.Endpoint{},
		named("twin"):                          []apps.Endpoint{{ID: NasID, Name: "twin"}, {ID: PhoneID, Name: "twin"}},
		"GET " + api.EndpointPath(m, LaptopID): api.Endpoint{Endpoint: laptop},
		"GET " + api.EndpointPath(m, NasID):    api.Endpoint{Endpoint: nas, Sessions: 1, RTT: 23.4},
		"GET " + api.EndpointPath(m, LaptopID, "labels"):  []string{"web"},
		"POST " + api.EndpointPath(m, LaptopID, "labels"): nil,
		"GET " + api.EndpointPath(m, NasID, "labels"):     []string{"b", "a"},
		"GET " + api.EndpointPath(m, LaptopID, "log"): []api.LogEntry{
			{Time: time.Unix(1700000000, 0).UTC(), Level: "INFO", Message: "connected"},
			{Time: time.Unix(1700000001, 0).UTC(), Level: "WARN", Message: "peer said \x1b[31mboo\r\n"},
		},
		"GET " + api.EndpointPath(m, NasID, "stats"): api.Stats{
			Sent: 1500, Received: 2_500_000, Active: 1,
			Peers: map[identity.ID]api.PeerStats{LaptopID: {Name: "laptop", Sent: 1500, Received: 2_500_000, Active: 1}, PhoneID: {Name: "phone"}},
		},
		"GET " + api.EndpointPath(m, NasID, "ping"): []api.Hop{
			{Type: "Endpoint", ID: LaptopID, Name: "laptop"},
			{Type: "Hub", ID: HubID, Name: "hub.example.com:8888", RTT: 1.25},
			{Type: "Endpoint", ID: NasID, Name: "nas", RTT: 23.4},
		},
		"GET " + api.EndpointPath(m, PhoneID, "ping"): []api.Hop{
			{Type: "Endpoint", ID: LaptopID, Name: "laptop"},
			{Type: "Hub", ID: HubID, Name: "hub.example.com:8888", RTT: 1.25},
			{Type: "Endpoint", ID: PhoneID, Name: "phone", Error: "endpoint phone is offline"},
		},
		"GET " + api.AppPath(m, LaptopID, "tunnel/tunnels"): map[string]any{
			"inbound": []map[string]string{{"protocol": "tcp", "name": "db"}}, "outbound": []any{},
		},
	}
}

func at(unix int64) time.Time { return time.Unix(unix, 0).UTC() }
