// Package cloudsqlconn stands in for Google's databases, which the tests have none of.
package cloudsqlconn

// Option is none.
type Option func()

// DialOption is none.
type DialOption func()

// WithIAMAuthN is no option.
func WithIAMAuthN() Option { return nil }

// WithCredentialsJSON is no option.
func WithCredentialsJSON([]byte) Option { return nil }

// WithDefaultDialOptions is no option.
func WithDefaultDialOptions(...DialOption) Option { return nil }

// WithPrivateIP is no option.
func WithPrivateIP() DialOption { return nil }

// WithPSC is no option.
func WithPSC() DialOption { return nil }
