package main

import "net"

// listens tries whether somebody listens at an address, for [process.Until].
func listens(address string) func() error {
	return func() error {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err
	}
}
