package route

import (
	"context"
	"net/url"

	"golang.org/x/net/dns/dnsmessage"

	"ztm/apps/proxy/dns"
	"ztm/apps/proxy/policy"
	"ztm/apps/reach"
	"ztm/tunnel/identity"
)

// Records asks the exit that serves the name d for its records. It goes the way of a connection, but without search
// domains; served is false if no exit serves the name.
func (r *Router) Records(ctx context.Context, d reach.Dest, t dnsmessage.Type) (rec dns.Records, served bool, err error) {
	use := func(id identity.ID) (err error) {
		rec, err = r.recordsAt(ctx, id, d.Name, t)
		return err
	}
	s := r.table()
	if rt, ok := s.routeOf(d); ok {
		if rt.Exit == "" {
			return dns.Records{}, false, nil
		}
		err = use(rt.Exit)
		return rec, true, err
	}
	err = r.chooseAmong(ctx, s, d, answerFresh, false, use)
	return rec, unserved(err) == nil, err
}

// recordsAt asks one exit.
func (r *Router) recordsAt(ctx context.Context, id identity.ID, name string, t dnsmessage.Type) (rec dns.Records, err error) {
	kind, err := dns.KindOf(t)
	if err != nil {
		return dns.Records{}, err
	}
	if self := r.mesh.Self(); id == self.ID {
		return r.own.Records(ctx, policy.User(self.User), name, kind)
	}
	err = ask(ctx, r.mesh, id, "proxy/resolve", url.Values{"name": {name}, "type": {kind}}, &rec, nil)
	return rec, err
}
