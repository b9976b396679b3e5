// Package k8s holds the manifests and compose.yaml against the real types and against what linters ask for. It is a module of its own, so that
// the program depends on none of it: (cd testdata/k8s && go test -count=1 .), as the cache does not see files outside a module
package k8s

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the generated part of deploy/k8s-monitoring.yaml anew")

const root = "../../"

// kinds are the kinds that the manifests may have.
var kinds = map[string]func() meta.Object{
	"v1 ServiceAccount":                       func() meta.Object { return new(core.ServiceAccount) },
	"v1 Service":                              func() meta.Object { return new(core.Service) },
	"v1 ConfigMap":                            func() meta.Object { return new(core.ConfigMap) },
	"apps/v1 Deployment":                      func() meta.Object { return new(apps.Deployment) },
	"apps/v1 StatefulSet":                     func() meta.Object { return new(apps.StatefulSet) },
	"policy/v1 PodDisruptionBudget":           func() meta.Object { return new(policy.PodDisruptionBudget) },
	"autoscaling/v2 HorizontalPodAutoscaler":  func() meta.Object { return new(autoscaling.HorizontalPodAutoscaler) },
	"networking.k8s.io/v1 NetworkPolicy":      func() meta.Object { return new(networking.NetworkPolicy) },
	"monitoring.coreos.com/v1 ServiceMonitor": func() meta.Object { return new(monitoring.ServiceMonitor) },
	"monitoring.coreos.com/v1 PrometheusRule": func() meta.Object { return new(monitoring.PrometheusRule) },
}

// decode decodes the documents of a manifest strictly: an unknown, misspelt or repeated field is an error.
func decode(t *testing.T, name string) []meta.Object {
	t.Helper()
	var objects []meta.Object
	for i, text := range bytes.Split(read(t, name), []byte("\n---\n")) {
		var kind meta.TypeMeta
		if err := yaml.Unmarshal(text, &kind); err != nil {
			t.Fatalf("%s, document %d: %v", name, i+1, err)
		}
		build, ok := kinds[kind.APIVersion+" "+kind.Kind]
		if !ok {
			t.Fatalf("%s, document %d: %s %s is none of the kinds used here", name, i+1, kind.APIVersion, kind.Kind)
		}
		object := build()
		if err := unmarshal(text, object); err != nil {
			t.Fatalf("%s, %s: %v", name, kind.Kind, err)
		}
		objects = append(objects, object)
	}
	return objects
}

// unmarshal is as strict as the API server, which unlike encoding/json knows upper from lower case.
func unmarshal(text []byte, into any) error {
	asJSON, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return err
	}
	strict, err := kjson.UnmarshalStrict(asJSON, into)
	return errors.Join(append(strict, err)...)
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(root + name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// one returns the only object of its type.
func one[T meta.Object](t *testing.T, objects []meta.Object) T {
	t.Helper()
	var found []T
	for _, object := range objects {
		if typed, ok := object.(T); ok {
			found = append(found, typed)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d objects %T", len(found), *new(T))
	}
	return found[0]
}

type workload struct {
	object   meta.Object
	selector *meta.LabelSelector
	pod      core.PodTemplateSpec
}

func workloads(objects []meta.Object) (found []workload) {
	for _, object := range objects {
		switch o := object.(type) {
		case *apps.Deployment:
			found = append(found, workload{o, o.Spec.Selector, o.Spec.Template})
		case *apps.StatefulSet:
			found = append(found, workload{o, o.Spec.Selector, o.Spec.Template})
		}
	}
	return found
}

var manifests = []string{"k8s.yaml", "deploy/k8s-postgres.yaml", "deploy/k8s-monitoring.yaml"}

func TestObjectsAreNamespaceNeutralAndNamed(t *testing.T) {
	for _, name := range manifests {
		for _, object := range decode(t, name) {
			if object.GetNamespace() != "" {
				t.Errorf("%s: %T %s is bound to namespace %s", name, object, object.GetName(), object.GetNamespace())
			}
			if object.GetName() == "" || object.GetLabels()["app.kubernetes.io/name"] == "" {
				t.Errorf("%s: %T has no name or no label app.kubernetes.io/name", name, object)
			}
		}
	}
}

func TestContainersAreHardened(t *testing.T) {
	for _, name := range manifests {
		for _, w := range workloads(decode(t, name)) {
			spec := w.pod.Spec
			problem := func(bad bool, format string, args ...any) {
				if bad {
					t.Errorf("%s, %s: %s", name, w.object.GetName(), fmt.Sprintf(format, args...))
				}
			}
			problem(spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken, "the service account's token is mounted")
			problem(spec.ServiceAccountName == "" || spec.ServiceAccountName == "default", "no service account of its own")
			problem(spec.HostNetwork || spec.HostPID || spec.HostIPC, "shares the host's namespaces")
			s := spec.SecurityContext
			problem(s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.RunAsUser == nil || *s.RunAsUser == 0, "may run as root")
			problem(s == nil || s.SeccompProfile == nil || s.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault, "no seccomp profile")
			for _, c := range spec.Containers {
				_, tag, _ := strings.Cut(c.Image, ":")
				problem(tag == "" || tag == "latest" || !strings.ContainsAny(tag, ".@"), "image %s has no exact version", c.Image)
				cs := c.SecurityContext
				problem(cs == nil || cs.ReadOnlyRootFilesystem == nil || !*cs.ReadOnlyRootFilesystem, "%s may write to its root", c.Name)
				problem(cs == nil || cs.AllowPrivilegeEscalation == nil || *cs.AllowPrivilegeEscalation, "%s may gain privileges", c.Name)
				problem(cs == nil || cs.Capabilities == nil || !slices.Equal(cs.Capabilities.Drop, []core.Capability{"ALL"}) || len(cs.Capabilities.Add) > 0, "%s keeps capabilities", c.Name)
				problem(cs != nil && cs.Privileged != nil && *cs.Privileged, "%s is privileged", c.Name)
				for _, list := range []core.ResourceList{c.Resources.Requests, c.Resources.Limits} {
					problem(list.Cpu().IsZero() || list.Memory().IsZero() || list.StorageEphemeral().IsZero(), "%s: CPU, memory and ephemeral storage must be requested and limited", c.Name)
				}
				problem(c.Resources.Requests.Memory().Cmp(*c.Resources.Limits.Memory()) > 0, "%s requests more memory than its limit", c.Name)
				for _, v := range c.Env {
					secret := strings.Contains(v.Name, "TOKEN") || strings.Contains(v.Name, "PASSWORD") || strings.Contains(v.Name, "_KEY") || v.Name == "DATABASE_URL"
					problem(secret && (v.ValueFrom == nil || v.ValueFrom.SecretKeyRef == nil), "%s is not taken from a Secret", v.Name)
				}
			}
		}
	}
}

// TestGitSyncExampleFitsTheDeployment reads the patch in the comments of k8s.yaml as strictly as the API server: what it adds is
// as locked in as the rest, and Vitrine reads what git-sync writes.
func TestGitSyncExampleFitsTheDeployment(t *testing.T) {
	_, rest, _ := strings.Cut(string(read(t, "k8s.yaml")), "\n#   spec:\n")
	var text strings.Builder
	text.WriteString("spec:\n")
	for line := range strings.Lines(rest) {
		part, isPatch := strings.CutPrefix(line, "#   ")
		if !isPatch {
			break
		}
		text.WriteString(part)
	}
	var patch apps.Deployment
	if err := unmarshal([]byte(text.String()), &patch); err != nil {
		t.Fatalf("%v\n%s", err, text.String())
	}
	if len(patch.Spec.Template.Spec.Containers) != 2 {
		t.Fatalf("the patch has %d containers", len(patch.Spec.Template.Spec.Containers))
	}
	deployment := one[*apps.Deployment](t, decode(t, "k8s.yaml"))
	ours, sync := patch.Spec.Template.Spec.Containers[0], patch.Spec.Template.Spec.Containers[1]
	if ours.Name != deployment.Spec.Template.Spec.Containers[0].Name || ours.Image != "" {
		t.Errorf("the patch does not change the container %s", deployment.Spec.Template.Spec.Containers[0].Name)
	}
	if own := deployment.Spec.Template.Spec.Containers[0]; !reflect.DeepEqual(sync.SecurityContext, own.SecurityContext) {
		t.Errorf("git-sync is not locked in as Vitrine: %+v", sync.SecurityContext)
	}
	for _, list := range []core.ResourceList{sync.Resources.Requests, sync.Resources.Limits} {
		if list.Cpu().IsZero() || list.Memory().IsZero() || list.StorageEphemeral().IsZero() {
			t.Errorf("git-sync: CPU, memory and ephemeral storage must be requested and limited: %v", list)
		}
	}

	env := map[string]string{}
	for _, v := range ours.Env {
		env[v.Name] = v.Value
	}
	root, link := "", ""
	for _, arg := range sync.Args {
		if value, ok := strings.CutPrefix(arg, "--root="); ok {
			root = value
		}
		if value, ok := strings.CutPrefix(arg, "--link="); ok {
			link = value
		}
	}
	if env["DOCS_DIR"] != root+"/"+link || env["DOCS_WAIT"] != "true" {
		t.Errorf("Vitrine reads %v, git-sync writes %s/%s", env, root, link)
	}
	volumes := map[string]bool{}
	for _, v := range patch.Spec.Template.Spec.Volumes {
		volumes[v.Name] = v.EmptyDir != nil && v.EmptyDir.SizeLimit != nil
	}
	for _, mount := range slices.Concat(ours.VolumeMounts, sync.VolumeMounts) {
		if !volumes[mount.Name] {
			t.Errorf("%s is no volume with a limit", mount.Name)
		}
	}
	if mount := ours.VolumeMounts[0]; mount.MountPath != root || !mount.ReadOnly || mount.Name != sync.VolumeMounts[0].Name {
		t.Errorf("Vitrine mounts %+v", mount)
	}
}

func TestProbesAskPortsThatExist(t *testing.T) {
	for _, name := range manifests {
		for _, w := range workloads(decode(t, name)) {
			for _, c := range w.pod.Spec.Containers {
				for what, probe := range map[string]*core.Probe{"startup": c.StartupProbe, "liveness": c.LivenessProbe, "readiness": c.ReadinessProbe} {
					switch {
					case probe == nil:
						t.Errorf("%s, %s: no %s probe", name, c.Name, what)
					case probe.HTTPGet != nil && !hasPort(c, probe.HTTPGet.Port):
						t.Errorf("%s, %s: the %s probe asks port %s", name, c.Name, what, probe.HTTPGet.Port.String())
					case probe.TimeoutSeconds < 2 || probe.TimeoutSeconds > probe.PeriodSeconds:
						t.Errorf("%s, %s: the %s probe waits %d s every %d s", name, c.Name, what, probe.TimeoutSeconds, probe.PeriodSeconds)
					case what == "readiness" && probe.TerminationGracePeriodSeconds != nil:
						t.Errorf("%s, %s: a readiness probe has no grace period", name, c.Name)
					}
				}
			}
		}
	}
	c := one[*apps.Deployment](t, decode(t, "k8s.yaml")).Spec.Template.Spec.Containers[0]
	if c.StartupProbe.HTTPGet.Path != "/livez" || c.LivenessProbe.HTTPGet.Path != "/livez" || c.ReadinessProbe.HTTPGet.Path != "/readyz" {
		t.Error("startup and liveness must ask /livez, readiness /readyz")
	}
}

func hasPort(c core.Container, port intstr.IntOrString) bool {
	return slices.ContainsFunc(c.Ports, func(p core.ContainerPort) bool { return p.Name == port.StrVal || p.ContainerPort == port.IntVal })
}

// TestSelectorsMatch follows every reference from one object to another.
func TestSelectorsMatch(t *testing.T) {
	var objects []meta.Object
	for _, name := range manifests {
		objects = append(objects, decode(t, name)...)
	}
	all := workloads(objects)
	target := func(object meta.Object, selector *meta.LabelSelector) *workload {
		s, err := meta.LabelSelectorAsSelector(selector)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(all, func(w workload) bool { return s.Matches(labels.Set(w.pod.Labels)) })
		if i < 0 || s.Empty() {
			t.Fatalf("%T %s selects no Pod", object, object.GetName())
		}
		return &all[i]
	}
	accounts := map[string]bool{}
	for _, object := range objects {
		switch o := object.(type) {
		case *core.ServiceAccount:
			accounts[o.Name] = true
		case *core.Service:
			w := target(o, &meta.LabelSelector{MatchLabels: o.Spec.Selector})
			for _, p := range o.Spec.Ports {
				if !hasPort(w.pod.Spec.Containers[0], p.TargetPort) {
					t.Errorf("Service %s leads to port %s, which is not there", o.Name, p.TargetPort.String())
				}
			}
		case *policy.PodDisruptionBudget:
			target(o, o.Spec.Selector)
			if o.Spec.UnhealthyPodEvictionPolicy == nil || *o.Spec.UnhealthyPodEvictionPolicy != policy.AlwaysAllow {
				t.Errorf("PodDisruptionBudget %s keeps nodes with broken Pods from being drained", o.Name)
			}
		case *networking.NetworkPolicy:
			w := target(o, &o.Spec.PodSelector)
			for _, rule := range o.Spec.Ingress {
				for _, p := range rule.Ports {
					if !hasPort(w.pod.Spec.Containers[0], *p.Port) {
						t.Errorf("NetworkPolicy %s opens port %s, which is not there", o.Name, p.Port.String())
					}
				}
				for _, from := range rule.From {
					if from.PodSelector != nil {
						target(o, from.PodSelector)
					}
				}
			}
		case *autoscaling.HorizontalPodAutoscaler:
			ref := o.Spec.ScaleTargetRef
			if d := one[*apps.Deployment](t, objects); ref.Kind != "Deployment" || ref.APIVersion != "apps/v1" || ref.Name != d.Name || d.Spec.Replicas != nil {
				t.Errorf("the HorizontalPodAutoscaler does not scale Deployment %s, or that sets replicas too", d.Name)
			}
		case *monitoring.ServiceMonitor:
			service := objects[slices.IndexFunc(objects, func(object meta.Object) bool { s, ok := object.(*core.Service); return ok && s.Name == "vitrine" })].(*core.Service)
			s, err := meta.LabelSelectorAsSelector(&o.Spec.Selector)
			if err != nil || !s.Matches(labels.Set(service.Labels)) {
				t.Errorf("the ServiceMonitor does not select Service vitrine: %v", err)
			}
			if job := service.Labels[o.Spec.JobLabel]; job != "vitrine" {
				t.Errorf("the job would be called %q", job)
			}
			for _, e := range o.Spec.Endpoints {
				if !slices.ContainsFunc(service.Spec.Ports, func(p core.ServicePort) bool { return p.Name == e.Port }) {
					t.Errorf("the ServiceMonitor asks port %s, which is not there", e.Port)
				}
			}
		}
	}
	for _, w := range all {
		if s := target(w.object, w.selector); s.object != w.object || !accounts[w.pod.Spec.ServiceAccountName] {
			t.Errorf("%s selects other Pods than its own, or has no service account", w.object.GetName())
		}
		for _, c := range w.pod.Spec.TopologySpreadConstraints {
			target(w.object, c.LabelSelector)
		}
	}
}

func TestRollsOutWithoutLoss(t *testing.T) {
	d := one[*apps.Deployment](t, decode(t, "k8s.yaml"))
	if r := d.Spec.Strategy.RollingUpdate; r == nil || r.MaxUnavailable.IntValue() != 0 || r.MaxSurge.IntValue() < 1 {
		t.Error("a roll-out takes an old Pod away before the new one is ready")
	}
	spec := d.Spec.Template.Spec
	c := spec.Containers[0]
	if c.Lifecycle == nil || c.Lifecycle.PreStop == nil || c.Lifecycle.PreStop.Sleep == nil {
		t.Fatal("no preStop pause: a proxy that has not heard yet sends requests to a closed port")
	}
	if s := one[*core.Service](t, decode(t, "k8s.yaml")); s.Spec.SessionAffinity != core.ServiceAffinityClientIP {
		t.Error("/sse and /messages of one client may reach different replicas")
	}
	if len(spec.TopologySpreadConstraints) == 0 {
		t.Error("all replicas may stand on one node")
	}
}

// TestMonitoringEqualsItsSources compares the rules with deploy/alerts.yaml and the dashboard with deploy/dashboard.json; -update writes them.
func TestMonitoringEqualsItsSources(t *testing.T) {
	const name, marker = "deploy/k8s-monitoring.yaml", "# Generated from deploy/alerts.yaml and deploy/dashboard.json: (cd testdata/k8s && go test -count=1 . -update)\n"
	alerts, dashboard := read(t, "deploy/alerts.yaml"), read(t, "deploy/dashboard.json")
	if *update {
		hand, _, found := strings.Cut(string(read(t, name)), marker)
		if !found {
			t.Fatalf("%s has no line %s", name, marker)
		}
		if err := os.WriteFile(root+name, []byte(hand+marker+generated(t, alerts, dashboard)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	objects := decode(t, name)
	if len(objects) == 1 {
		t.Fatalf("%s lacks the rules and the dashboard: (cd testdata/k8s && go test -count=1 . -update)", name)
	}
	var want, got monitoring.PrometheusRuleSpec
	if err := unmarshal(alerts, &want); err != nil {
		t.Fatalf("deploy/alerts.yaml is not what a PrometheusRule may hold: %v", err)
	}
	if got = one[*monitoring.PrometheusRule](t, objects).Spec; !reflect.DeepEqual(got, want) {
		t.Error("the rules differ from deploy/alerts.yaml: (cd testdata/k8s && go test -count=1 . -update)")
	}
	var a, b any
	if err := json.Unmarshal(dashboard, &a); err != nil {
		t.Fatal(err)
	}
	config := one[*core.ConfigMap](t, objects)
	if err := json.Unmarshal([]byte(config.Data["vitrine.json"]), &b); err != nil || !reflect.DeepEqual(a, b) {
		t.Errorf("the dashboard differs from deploy/dashboard.json (%v): (cd testdata/k8s && go test -count=1 . -update)", err)
	}
	if size := len(config.Data["vitrine.json"]); size > 200<<10 {
		t.Errorf("the dashboard has %d bytes: kubectl apply keeps a copy in an annotation of at most 256 KiB", size)
	}
}

func generated(t *testing.T, alerts, dashboard []byte) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("---\napiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: vitrine\n  labels: {app.kubernetes.io/name: vitrine}\nspec:\n")
	_, groups, found := strings.Cut(string(alerts), "\ngroups:\n")
	if !found {
		t.Fatal("deploy/alerts.yaml has no groups")
	}
	for line := range strings.Lines("groups:\n" + strings.TrimRight(groups, "\n") + "\n") {
		if line != "\n" {
			line = "  " + line
		}
		b.WriteString(line)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, dashboard); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: vitrine-dashboard\n  labels: {app.kubernetes.io/name: vitrine, grafana_dashboard: \"1\"}\ndata:\n  vitrine.json: |\n    %s\n", compact.String())
	return b.String()
}
