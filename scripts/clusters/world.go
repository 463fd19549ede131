//go:build linux

package main

import (
	"fmt"
	"path/filepath"
	"time"

	"ztm/scripts/process"
)

// The network. The two nodes and what is behind them have the same addresses:
//
//	pods 10.42.0.0/24 ── a 10.42.0.1 / 203.0.113.2  ── net 203.0.113.1  │ 198.51.100.1
//	pods 10.42.0.0/24 ── b 10.42.0.1 / 203.0.113.6  ── net 203.0.113.5  │   (the hub)
//	                     laptop        203.0.113.10 ── net 203.0.113.9  │
//
// A pod has a cable of its own to its node, which routes: so each packet passes the rules of
// kube-proxy, in both directions.
const (
	hubIP   = "198.51.100.1"
	hub     = hubIP + ":8888"
	nodeIP  = "10.42.0.1"
	dnsIP   = "10.43.0.10" // of the Service
	apiIP   = "10.43.0.1"
	service = "10.43.0.0/16"
)

// world makes the network.
func (l *lab) world() error {
	n := l.net
	n.Add("net")
	n.IP("net", "addr add "+hubIP+"/32 dev lo")
	n.IP("net", "route add unreachable default")
	n.Forward("net")
	for i, place := range []string{"a", "b", "laptop"} {
		n.Add(place)
		n.Link("net", place, fmt.Sprintf("203.0.113.%d/30", 4*i+1), fmt.Sprintf("203.0.113.%d/30", 4*i+2))
		n.IP(place, fmt.Sprintf("route add default via 203.0.113.%d", 4*i+1))
		if place == "laptop" {
			continue
		}
		n.Forward(place)
		n.IP(place, "addr add "+nodeIP+"/32 dev lo")
		n.Nft(place, `table ip node { chain out { type nat hook postrouting priority srcnat; ip saddr 10.42.0.0/16 oifname "net" masquerade; }
		}`)
		l.clusters = append(l.clusters, &cluster{lab: l, name: place, dir: l.path(place)})
	}
	return n.Err()
}

// cable makes the namespace of a pod, and its way to the node.
func (c *cluster) cable(pod, ip string) error {
	n, place := c.lab.net, c.name+"-"+pod
	n.Add(place)
	link := "p" + filepath.Ext(ip)[1:] // the name of a device has at most 15 bytes
	n.Run("ip", "link", "add", "name", link, "netns", n.Name(c.name), "type", "veth", "peer", "name", "eth0", "netns", n.Name(place))
	n.IP(c.name, "link set dev "+link+" up")
	n.IP(c.name, "route add "+ip+"/32 dev "+link)
	n.IP(place, "addr add "+ip+"/32 dev eth0")
	n.IP(place, "link set dev eth0 up")
	n.IP(place, "route add "+nodeIP+" dev eth0 scope link")
	n.IP(place, "route add default via "+nodeIP)
	n.Resolv(place, "nameserver "+dnsIP+"\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n")
	return n.Err()
}

// run starts a program at a place; it must have said nothing yet. Its log is NAME.log.
func (l *lab) run(place, name, program string, args ...string) (*process.Process, error) {
	words := append(l.net.In(place), program)
	return l.group.Start(name, words[0], append(words[1:], args...)...)
}

// until runs a command at a place until it succeeds, and returns its output.
func (l *lab) until(place string, words ...string) (out string, err error) {
	err = process.Until(l.ctx, fmt.Sprint(words), timeout, func() (err error) {
		if out, err = l.net.Output(place, words...); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	return out, err
}

// prints runs a command at a place until it prints a text, and returns after how long.
func (l *lab) prints(text, place string, words ...string) (time.Duration, error) {
	began := time.Now()
	err := process.Until(l.ctx, fmt.Sprint(words), timeout, func() error {
		out, err := l.net.Output(place, words...)
		return matches(out, text, err)
	})
	return time.Since(began), err
}
