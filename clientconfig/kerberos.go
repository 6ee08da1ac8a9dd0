package clientconfig

import (
	"strings"

	"barnabas/clientconfig/gssapi"
	"barnabas/config"
)

// kerberosLogin reads the options of Krb5LoginModule and sasl.kerberos.*: the key of a keytab, or the tickets of a cache
// that others fill. There is nobody to ask for a password.
func (r *reader) kerberosLogin(entry jaasEntry) proof {
	const jaasKey, serviceKey = "sasl.jaas.config", "sasl.kerberos.service.name"
	is := func(option string) bool { return strings.EqualFold(entry.options[option], "true") }
	o := gssapi.Options{Conf: r.text(KerberosKey, "/etc/krb5.conf"), Principal: entry.options["principal"], Service: r.text(serviceKey, "")}
	if own := entry.options["serviceName"]; own != "" {
		if o.Service != "" && o.Service != own {
			r.fail(serviceKey, "Conflicting serviceName values found in JAAS and Kafka configs")
		}
		o.Service = own
	}
	if o.Service == "" {
		r.fail(serviceKey, "No serviceName defined in either JAAS or Kafka config")
	}
	switch {
	case is("useKeyTab"):
		if o.Keytab = strings.TrimPrefix(strings.TrimPrefix(entry.options["keyTab"], "FILE:"), "file:"); o.Keytab == "" {
			r.fail(jaasKey, "the login module needs the option keyTab beside useKeyTab")
		}
		if o.Principal == "" {
			r.fail(jaasKey, "the login module needs the option principal beside useKeyTab")
		}
	case is("useTicketCache"):
		if o.TicketCache = strings.TrimPrefix(entry.options["ticketCache"], "FILE:"); o.TicketCache == "" {
			r.fail(jaasKey, "the login module needs the option ticketCache beside useTicketCache: a worker has no user whose cache would be meant")
		}
	default:
		r.fail(jaasKey, "the login module needs useKeyTab=true with keyTab and principal, or useTicketCache=true with ticketCache: there is nobody to ask for a password")
	}
	written := r.settings[jaasKey].Written
	for option, path := range map[string]string{"keyTab": o.Keytab, "ticketCache": o.TicketCache} {
		if path != "" {
			r.allowedPath(jaasKey, path, shownOption(written, option, entry.options[option]))
		}
	}
	r.kerberosTimes()
	if len(r.problems) > 0 {
		return proof{}
	}
	mechanism, err := gssapi.New(o)
	if err != nil {
		r.fail(jaasKey, "%v", err)
		return proof{}
	}
	if o.Principal == "" {
		return proof{mechanism: mechanism, principal: "the owner of the tickets in " + shownOption(written, "ticketCache", entry.options["ticketCache"])}
	}
	principal := shownOption(written, "principal", o.Principal)
	if len(references(principal)) == 0 {
		// Kafka's default rule (KerberosShortNamer): the first part, without host and realm.
		principal, _, _ = strings.Cut(principal, "@")
		principal, _, _ = strings.Cut(principal, "/")
	}
	return proof{mechanism: mechanism, user: config.NewSecret(o.Principal), principal: "User:" + principal}
}

// kerberosTimes reads settings of Java's renewal, which is done otherwise here.
func (r *reader) kerberosTimes() {
	r.double("sasl.kerberos.ticket.renew.window.factor", 0.8, 0, 1)
	r.double("sasl.kerberos.ticket.renew.jitter", 0.05, 0, 1)
	r.number("sasl.kerberos.min.time.before.relogin", 60_000, 0, 1<<53)
	for _, key := range []string{"sasl.kerberos.ticket.renew.window.factor", "sasl.kerberos.ticket.renew.jitter", "sasl.kerberos.min.time.before.relogin"} {
		r.ignore(key, "tickets are replaced at five sixths of their life, and when a login fails")
	}
	r.ignore("sasl.kerberos.kinit.cmd", "tickets are fetched without kinit")
	r.class("sasl.login.class", "", "org.apache.kafka.common.security.kerberos.KerberosLogin")
}
