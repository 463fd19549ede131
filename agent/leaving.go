package agent

// Withdraw takes back, in all meshes, what the apps offer, and lets them offer no more: this
// endpoint is about to end. Who knows of it still reaches it.
func (a *Agent) Withdraw() {
	for _, m := range a.all() {
		m.control.Retract()
	}
}

// Active returns how many flows run, in all meshes.
func (a *Agent) Active() (n int) {
	for _, m := range a.all() {
		n += m.stats().Active
	}
	return n
}
