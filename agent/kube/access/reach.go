package access

import (
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"ztm/apps"
	"ztm/tunnel/answer"
)

// transport carries requests in flows to the endpoints of a login.
func (l *logins) transport(to Login) *http.Transport {
	return &http.Transport{DisableCompression: true, MaxIdleConns: 4, IdleConnTimeout: time.Minute,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return l.open(ctx, to) }}
}

// open opens a flow to the endpoint that has the name now, or to one of those that lead to the
// cluster. If one of these cannot be reached it tries the others.
func (l *logins) open(ctx context.Context, to Login) (net.Conn, error) {
	list, err := l.host.Mesh.Endpoints(ctx, to.filter())
	if err != nil {
		return nil, err
	}
	err = answer.Errorf(answer.Unavailable, "no endpoint %s of user %s that leads to a cluster is online", to.Name, to.User)
	if to.Cluster {
		err = answer.Errorf(answer.Unavailable, "no endpoint of user %s that leads to cluster %s is online", to.User, to.Name)
	}
	for _, i := range rand.Perm(len(list)) {
		if !list[i].Online {
			continue
		}
		var c net.Conn
		if c, err = l.host.Mesh.Open(ctx, list[i].ID, Name+"/"+API, nil); err == nil || ctx.Err() != nil {
			return c, err
		}
	}
	return nil, err
}

// filter finds the endpoints of a login.
func (o *Login) filter() apps.Filter {
	if o.Cluster {
		return apps.Filter{User: o.User, Offer: Name + "/" + API + "/" + o.Name}
	}
	return apps.Filter{Name: o.Name, User: o.User, Offer: Name + "/" + API}
}
