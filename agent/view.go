package agent

import (
	"net/http"

	"ztm/tunnel/answer"
)

// serveView shows the mesh as it is seen from this endpoint: to its own user, here or at another
// endpoint of that user. It reports whether there is such a view. Nothing is changed.
//
//	mesh, identity                    this membership, and the key of the device
//	hubs, users, evictions, endpoints[/ID]
//	                                  what the hub of this endpoint says
//	ping/ID                           the way from here to another endpoint
func (m *mesh) serveView(w http.ResponseWriter, r *http.Request, name, id string) bool {
	r.SetPathValue("ep", id)
	switch {
	case name == "mesh" && id == "":
		answer.JSON(w, m.describe())
	case name == "identity" && id == "":
		m.agent.getIdentity(w, r)
	case name == "hubs" && id == "":
		m.getHubs(w, r)
	case name == "users" && id == "":
		m.getUsers(w, r)
	case name == "evictions" && id == "":
		m.getEvictions(w, r)
	case name == "endpoints" && id == "":
		m.getEndpoints(w, r)
	case name == "endpoints":
		m.getEndpoint(w, r)
	case name == "ping" && id != "":
		m.getPing(w, r)
	default:
		return false
	}
	return true
}
