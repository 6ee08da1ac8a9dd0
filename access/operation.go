package access

import "time"

// Operation is what is done with an app.
type Operation string

// The operations. Pausing, resuming and scaling are updates.
const (
	CreateApp     Operation = "create"
	UpdateApp     Operation = "update"
	UpsertApp     Operation = "upsert"
	DeleteApp     Operation = "delete"
	ManageOffsets Operation = "manage offsets"
	GetApp        Operation = "get"
	ListApps      Operation = "list"
)

// App is what an operation on an app touches. Namespace is environment/cluster/namespace, Source and Target are
// environment/connection.
type App struct{ Name, Namespace, Source, Target string }

// Need is a right that an operation needs: one of the actions on the resource.
type Need struct {
	Actions  []string
	Resource string
}

// Needs returns all rights that an operation on an app needs. One that there is not needs what nobody can have.
func (o Operation) Needs(app App) []Need {
	of := func(actions ...string) Need { return Need{actions, Resource("k2k:app", app.Name)} }
	switch o {
	case CreateApp:
		return app.deploys(of("k2k:CreateApp", "k2k:UpsertApp"))
	case UpdateApp:
		return app.deploys(of("k2k:UpdateApp", "k2k:UpsertApp"))
	case UpsertApp:
		return app.deploys(of("k2k:UpsertApp"))
	case DeleteApp:
		return []Need{of("k2k:DeleteApp")}
	case ManageOffsets:
		return []Need{of("k2k:ManageOffsets")}
	case GetApp:
		return []Need{of("k2k:GetApp")}
	case ListApps:
		return []Need{of("k2k:ListApps")}
	}
	return []Need{{Resource: Resource("k2k:app", app.Name)}}
}

// deploys adds what an operation needs that has the app run.
func (app App) deploys(need Need) []Need {
	use := []string{"environments:UseKafkaConnection"}
	return []Need{
		need,
		{[]string{"kubernetes:DeployApps"}, Resource("kubernetes:namespace", app.Namespace)},
		{use, Resource("environments:kafka-connection", app.Source)},
		{use, Resource("environments:kafka-connection", app.Target)},
	}
}

// DecideAll answers whether a caller has all rights that are needed. It returns the decision on the first that is
// missing, or on the first of all.
func (rs Roles) DecideAll(c Caller, at time.Time, needs []Need) Decision {
	var first Decision
	for i, n := range needs {
		var d Decision
		for _, action := range n.Actions {
			one := rs.Decide(c, at, action, n.Resource)
			if one.Allowed || d.Action == "" || d.Rule == "" && one.Rule != "" {
				d = one
			}
			if d.Allowed {
				break
			}
		}
		if !d.Allowed {
			d.Resource = n.Resource
			return d
		}
		if i == 0 {
			first = d
		}
	}
	return first
}
