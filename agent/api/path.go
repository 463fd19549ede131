package api

import (
	"net/url"
	"strconv"
	"strings"

	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// Paths that need no name.
const (
	VersionPath  = "/api/version"
	IdentityPath = "/api/identity"
	MeshesPath   = "/api/meshes"
	ConsolePath  = "/api/console"
)

// MeshPath is the path of a mesh.
func MeshPath(mesh string) string { return join(MeshesPath, mesh) }

// HubPermitPath is where a permit for another hub of the mesh is made.
func HubPermitPath(mesh string) string { return MeshPath(mesh) + "/permits" }

// PermitPath is where a permit for a user is made.
func PermitPath(mesh, user string) string { return join(MeshPath(mesh)+"/permits", user) }

// CAPath is where the mesh's CA is replaced (POST), and where an endpoint that holds its key gives
// the root permit (GET).
func CAPath(mesh string) string { return MeshPath(mesh) + "/ca" }

// UsersPath lists the users of a mesh.
func UsersPath(mesh string) string { return MeshPath(mesh) + "/users" }

// UserPath is the path of a user.
func UserPath(mesh, user string) string { return join(UsersPath(mesh), user) }

// EvictPath is where a user is evicted. With force that is done though the mesh knows no such user.
func EvictPath(mesh, user string, force bool, reason string) string {
	return UserPath(mesh, user) + eviction(false, force, reason)
}

// EvictDevicePath is where one endpoint, or a hub, is evicted.
func EvictDevicePath(mesh string, id identity.ID, hub, force bool, reason string) string {
	return join(MeshPath(mesh)+"/devices", string(id)) + eviction(hub, force, reason)
}

func eviction(hub, force bool, reason string) string {
	q := url.Values{}
	if hub {
		q.Set("hub", "true")
	}
	if force {
		q.Set("force", "true")
	}
	if reason != "" {
		q.Set("reason", reason)
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

// EvictionsPath lists the evictions of the trust list.
func EvictionsPath(mesh string) string { return MeshPath(mesh) + "/evictions" }

// HubsPath lists the hubs of a mesh (GET), and is where a person sets their addresses (PUT: a list of
// host:port).
func HubsPath(mesh string) string { return MeshPath(mesh) + "/hubs" }

// EndpointsPath lists the endpoints of a mesh that match the filter.
func EndpointsPath(mesh string, f apps.Filter) string {
	return MeshPath(mesh) + "/endpoints" + query(f)
}

// ViewPath is [EndpointsPath] as an endpoint of the same user sees the mesh.
func ViewPath(mesh string, id identity.ID, f apps.Filter) string {
	return EndpointPath(mesh, id, "endpoints") + query(f)
}

func query(f apps.Filter) string {
	q := url.Values{}
	for key, value := range map[string]string{"name": f.Name, "user": f.User, "keyword": f.Keyword, "offer": f.Offer} {
		if value != "" {
			q.Set(key, value)
		}
	}
	if f.Online {
		q.Set("online", "true")
	}
	if f.Offset > 0 {
		q.Set("offset", strconv.Itoa(f.Offset))
	}
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

// ParseFilter reads the query of [EndpointsPath]. Unknown parameters are skipped.
func ParseFilter(q url.Values) (apps.Filter, error) {
	f := apps.Filter{Name: q.Get("name"), User: q.Get("user"), Keyword: q.Get("keyword"), Offer: q.Get("offer")}
	if s := q.Get("online"); s != "" {
		on, err := strconv.ParseBool(s)
		if err != nil {
			return apps.Filter{}, answer.Errorf(answer.BadRequest, "online: %q is neither true nor false", s)
		}
		f.Online = on
	}
	for key, n := range map[string]*int{"offset": &f.Offset, "limit": &f.Limit} {
		if s := q.Get(key); s != "" {
			v, err := strconv.Atoi(s)
			if err != nil || v < 0 {
				return apps.Filter{}, answer.Errorf(answer.BadRequest, "%s: %q is not a count", key, s)
			}
			*n = v
		}
	}
	return f, nil
}

// EndpointPath is the path of an endpoint; what belongs to it is below: "labels", "log", "stats",
// "ping". To its own user it also shows how the mesh looks from there: "mesh", "identity", "hubs",
// "users", "endpoints" and "ping" with an ID below.
func EndpointPath(mesh string, id identity.ID, below ...string) string {
	return join(MeshPath(mesh)+"/endpoints", append([]string{string(id)}, below...)...)
}

// NamePath is where the name of an endpoint becomes an endpoint to trust: POST, and DELETE to
// forget it, see [Resolved].
func NamePath(mesh, name string) string { return join(MeshPath(mesh)+"/names", name) }

// OfferNamePath is [NamePath] of what the endpoints of one user offer, a cluster: its name is remembered
// as that of an endpoint. user is whose endpoints are meant, "" whoever has some.
func OfferNamePath(mesh, name, offer, user string) string {
	return NamePath(mesh, name) + "?" + url.Values{"offer": {offer}, "user": {user}}.Encode()
}

// AppPath is the path of an app's API at an endpoint. path begins with the app's name and may end
// in a query; it is already escaped.
func AppPath(mesh string, id identity.ID, path string) string {
	return EndpointPath(mesh, id, "apps") + "/" + strings.TrimPrefix(path, "/")
}

// FlowPath is where a flow to an app at an endpoint is opened. path begins with the app's name.
func FlowPath(mesh string, id identity.ID, path string, query url.Values) string {
	p := join(EndpointPath(mesh, id, "flows"), strings.Split(strings.TrimPrefix(path, "/"), "/")...)
	if len(query) > 0 {
		p += "?" + query.Encode()
	}
	return p
}

// join appends segments, escaped: a name that holds a slash stays one segment, one that is ".."
// does not go up.
func join(path string, segments ...string) string {
	for _, s := range segments {
		if s == "." || s == ".." {
			path += "/" + strings.ReplaceAll(s, ".", "%2E")
			continue
		}
		path += "/" + url.PathEscape(s)
	}
	return path
}
