package expose

import "strings"

// claims says who has which name. A Service's own names cannot be taken by another; of two that
// want another name the older one gets it.
type claims struct {
	own   map[string]string // Services by the keys that are their own
	taken map[string]string // Services by the keys that they have got
}

// reserve keeps the own names of a Service that asked for them.
func (c *claims) reserve(w *wish) {
	if w.name != "" {
		return
	}
	if c.own == nil {
		c.own = map[string]string{}
	}
	for _, p := range w.ports {
		for _, name := range p.names {
			c.own[p.protocol+"/"+name] = w.id()
		}
	}
}

// take gives a key to a wish, or returns who has it.
func (c *claims) take(key string, w *wish) (holder string) {
	if by := c.own[key]; by != "" && by != w.id() {
		return by
	}
	if by := c.taken[key]; by != "" && by != w.id() {
		return by
	}
	c.taken[key] = w.id()
	return ""
}

// id is how people write which Service it is.
func (w *wish) id() string { return strings.Join([]string{w.service.Namespace, w.service.Name}, "/") }
