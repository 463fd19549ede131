package identity

import (
	"crypto/x509"
	"net/url"
	"strings"
)

// The URI that a certificate carries as its only subject alternative name:
//
//	ztm://MESH                             a CA
//	ztm://MESH/hub/ID                      a hub
//	ztm://MESH/user/NAME/endpoint/ID       an endpoint of a user: a member
const scheme = "ztm"

func meshURI(mesh ID) *url.URL {
	return &url.URL{Scheme: scheme, Host: string(mesh)}
}

// uri returns the URI of a hub or member.
func (s Subject) uri() *url.URL {
	u := meshURI(s.Mesh)
	if s.Role == RoleHub {
		u.Path = "/hub/" + string(s.ID)
	} else {
		u.Path = "/user/" + s.User + "/endpoint/" + string(s.ID)
	}
	return u
}

// soleURI returns the URI of a certificate. It refuses a certificate that carries any other name
// beside it: a name we would not look at is a name somebody else may believe.
func soleURI(cert *x509.Certificate) (string, bool) {
	others := len(cert.DNSNames) + len(cert.EmailAddresses) + len(cert.IPAddresses)
	if len(cert.URIs) != 1 || others > 0 {
		return "", false
	}
	return cert.URIs[0].String(), true
}

// parseMeshURI reads the URI of a CA.
func parseMeshURI(s string) (mesh ID, ok bool) {
	rest, ok := strings.CutPrefix(s, scheme+"://")
	if !ok {
		return "", false
	}
	mesh, err := ParseID(rest)
	return mesh, err == nil
}

// parseSubjectURI reads the URI of a hub or member into a Subject that has Mesh, Role, User and ID.
// Names and IDs need no escaping, so what is not exactly of one of the two forms is refused.
func parseSubjectURI(s string) (subject Subject, ok bool) {
	rest, ok := strings.CutPrefix(s, scheme+"://")
	if !ok {
		return Subject{}, false
	}
	part := strings.Split(rest, "/")
	switch {
	case len(part) == 3 && part[1] == "hub":
		subject.Role = RoleHub
	case len(part) == 5 && part[1] == "user" && part[3] == "endpoint" && CheckName(part[2]) == nil:
		subject.Role, subject.User = RoleMember, part[2]
	default:
		return Subject{}, false
	}
	mesh, err := ParseID(part[0])
	if err != nil {
		return Subject{}, false
	}
	id, err := ParseID(part[len(part)-1])
	if err != nil {
		return Subject{}, false
	}
	subject.Mesh, subject.ID = mesh, id
	return subject, true
}
