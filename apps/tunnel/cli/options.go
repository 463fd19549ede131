package cli

import (
	"errors"
	"fmt"
	"slices"

	"ztm/apps"
	"ztm/apps/tunnel/spec"
	"ztm/tunnel/identity"
)

// options are the options of a command line. A *cli.Context is one.
type options interface {
	IsSet(name string) bool
	String(name string) string
	StringSlice(name string) []string
	Int(name string) int
	Bool(name string) bool
}

// resolver turns names of endpoints into IDs.
type resolver func(names []string) ([]identity.ID, error)

// applyInbound changes what the options say. The error is an [apps.UsageError] if an option is
// wrong.
func applyInbound(in *spec.Inbound, o options, resolve resolver) error {
	p := &parser{options: o, resolve: resolve}
	p.addresses("listen", &in.Listens, false)
	p.endpoints("exits", &in.Exits)
	p.exitsOf(in)
	p.limits(&in.Limits)
	text(p, "balance", &in.Balance)
	if o.IsSet("accept-proxy-protocol") {
		in.AcceptProxy = o.Bool("accept-proxy-protocol")
	}
	p.duration("idle-timeout", &in.Idle)
	return p.err
}

// applyOutbound changes what the options say. The error is an [apps.UsageError] if an option is
// wrong.
func applyOutbound(o *spec.Outbound, opts options, resolve resolver) error {
	p := &parser{options: opts, resolve: resolve}
	p.addresses("targets", &o.Targets, true)
	p.endpoints("entrances", &o.Entrances)
	if opts.IsSet("users") {
		o.Users = values(opts.StringSlice("users"))
	}
	p.limits(&o.Limits)
	text(p, "balance", &o.Balance)
	text(p, "check", &o.Check)
	text(p, "proxy-protocol", &o.Proxy)
	p.duration("idle-timeout", &o.Idle)
	if opts.IsSet("off") {
		o.Off = opts.Bool("off")
	}
	return p.err
}

// parser reads options until one of them is wrong.
type parser struct {
	options
	resolve resolver
	err     error
}

// set parses the values of an option into v, if the option is there.
func set[T any](p *parser, name string, v *[]T, parse func(string) (T, error)) {
	if p.err != nil || !p.IsSet(name) {
		return
	}
	*v = []T{}
	for _, s := range values(p.StringSlice(name)) {
		x, err := parse(s)
		if err != nil {
			p.wrong(name, err)
			return
		}
		*v = append(*v, x)
	}
}

// text reads an option that is a word.
func text[T interface {
	~string
	Validate() error
}](p *parser, name string, v *T) {
	if p.err != nil || !p.IsSet(name) {
		return
	}
	*v = T(p.String(name))
	if err := (*v).Validate(); err != nil {
		p.wrong(name, err)
	}
}

func (p *parser) limits(l *spec.Limits) {
	p.rate("rate", &l.RateUp)
	p.rate("rate", &l.RateDown)
	p.rate("rate-up", &l.RateUp)
	p.rate("rate-down", &l.RateDown)
	if p.IsSet("max-conns") {
		l.MaxConns = p.Int("max-conns")
	}
}

func (p *parser) rate(name string, v *spec.Rate) {
	if p.err != nil || !p.IsSet(name) {
		return
	}
	r, err := spec.ParseRate(p.String(name))
	if err != nil {
		p.wrong(name, err)
		return
	}
	*v = r
}

func (p *parser) wrong(name string, err error) {
	p.err = &apps.UsageError{Err: fmt.Errorf("option --%s: %w", name, err)}
}

// addresses reads an option that must be there, now or from before; at least as an empty list if
// that is not required.
func (p *parser) addresses(name string, v *[]spec.Address, required bool) {
	set(p, name, v, spec.ParseAddress)
	if p.err == nil && len(*v) == 0 && (required || !p.IsSet(name)) {
		p.err = &apps.UsageError{Err: fmt.Errorf("missing option --%s", name)}
	}
}

func (p *parser) endpoints(name string, v *[]identity.ID) {
	if p.err == nil && p.IsSet(name) {
		*v, p.err = p.resolve(values(p.StringSlice(name)))
	}
}

// exitsOf reads the user whose exits are to be used: in place of exits that are named, unless both
// are on the line.
func (p *parser) exitsOf(in *spec.Inbound) {
	switch {
	case p.err != nil:
	case !p.IsSet("exits-of"):
		if p.IsSet("exits") && len(in.Exits) > 0 {
			in.ExitsOf = ""
		}
	case p.IsSet("exits") && len(in.Exits) > 0 && len(values([]string{p.String("exits-of")})) > 0:
		p.wrong("exits-of", errors.New("--exits names the exits already"))
	default:
		in.ExitsOf = p.String("exits-of")
		if in.ExitsOf == off {
			in.ExitsOf = ""
		}
		if in.ExitsOf != "" {
			in.Exits = nil
			if err := identity.CheckName(in.ExitsOf); err != nil {
				p.wrong("exits-of", err)
			}
		}
	}
}

func (p *parser) duration(name string, v *apps.Duration) {
	if p.err != nil || !p.IsSet(name) {
		return
	}
	d, err := apps.ParseDuration(p.String(name))
	if err != nil {
		p.wrong(name, err)
		return
	}
	*v = d
}

// values returns the values of an option that may be empty: `--users` alone takes all users away,
// as `--users off` does, which must not give access to a user of that name.
func values(list []string) []string {
	list = slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == "" })
	if len(list) == 1 && list[0] == off {
		return nil
	}
	return list
}

// off stands for no value.
const off = "off"
