// Package identity says who a device is and judges who a peer is.
package identity
