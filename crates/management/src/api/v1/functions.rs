//! Functions: what is deployed, and taking it away.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Response;
use http::request::Parts;
use tinyfaas_model::{CallOutcome, CoapAttributes, FunctionName, Limits, Trouble, Usage};

use crate::api::answer::{self, AnswerBody};
use crate::api::query::{Query, decoded};
use crate::api::refusal::Refusal;
use crate::api::{Api, Endpoints};
use crate::manager::{BuildReport, DeleteError, FunctionView};
use crate::shown::nearest;

use super::{shapes, time};

impl Api {
    pub(in crate::api) async fn list_functions(
        &self,
        host: &str,
        head: &Parts,
    ) -> Result<Response<AnswerBody>, Refusal> {
        Query::parse(head.uri.query(), &[])?;
        let summary = |view| {
            let mut function = shapes::Function::of(&view, host, self.surroundings.endpoints);
            function.build.output = None;
            function
        };
        let functions = self.manager.functions().await.into_iter().map(summary).collect();
        Ok(answer::json(&shapes::Functions { functions }))
    }

    pub(in crate::api) async fn get_function(
        &self,
        host: &str,
        name: &str,
        head: &Parts,
    ) -> Result<Response<AnswerBody>, Refusal> {
        Query::parse(head.uri.query(), &[])?;
        let name = decoded(name);
        let view = self.manager.function(&name).await;
        let view = view.ok_or_else(|| self.unknown_function(&name))?;
        Ok(answer::json(&shapes::Function::of(&view, host, self.surroundings.endpoints)))
    }

    pub(in crate::api) async fn delete_function(
        &self,
        name: &str,
        head: &Parts,
    ) -> Result<Response<AnswerBody>, Refusal> {
        Query::parse(head.uri.query(), &[])?;
        let name = decoded(name);
        let parsed = FunctionName::parse(&name).map_err(|_| self.unknown_function(&name))?;
        match self.manager.delete(parsed).await {
            Ok(()) => Ok(answer::nothing()),
            Err(DeleteError::Unknown { .. }) => Err(self.unknown_function(&name)),
            Err(error @ DeleteError::Fault(_)) => Err(error.into()),
        }
    }

    pub(in crate::api) async fn delete_functions(
        &self,
        head: &Parts,
    ) -> Result<Response<AnswerBody>, Refusal> {
        Query::parse(head.uri.query(), &[])?;
        self.manager.wipe().await?;
        Ok(answer::nothing())
    }

    pub(in crate::api) fn unknown_function(&self, name: &str) -> Refusal {
        let names = self.manager.names();
        let near = nearest(name, names.iter().map(FunctionName::as_str));
        Refusal::unknown_function(name, near.into_iter().map(str::to_owned).collect())
    }
}

impl shapes::Function {
    pub(in crate::api) fn of(view: &FunctionView, host: &str, endpoints: Endpoints) -> Self {
        let spec = &view.spec;
        let cpu = Duration::from_micros(view.counters.handlers.cpu_us.load(Ordering::Relaxed));
        let count = |outcome: CallOutcome| (outcome.name(), view.counters.calls.count(outcome));
        Self {
            name: spec.name.to_string(),
            description: spec.description.clone(),
            env: spec.runtime.name(),
            threads: spec.threads,
            envs: spec.envs.iter().map(|env| env.key.clone()).collect(),
            limits: shapes::FunctionLimits::of(&spec.limits),
            cgi: spec.cgi,
            coap: shapes::CoapAttributes::of(&spec.coap),
            state: view.health.condition().name(),
            deployed: time(view.deployed),
            version: view.version,
            handlers: shapes::Handlers {
                ready: view.health.ready,
                wanted: view.health.wanted,
                restarts: view.health.restarts,
                trouble: view.health.trouble.as_ref().map(shapes::Trouble::of),
            },
            load: shapes::FunctionLoad { running: view.running, waiting: view.waiting },
            usage: view.usage.map(|usage| shapes::Usage::of(usage, cpu)),
            calls: CallOutcome::ALL.map(count).into_iter().collect(),
            build: shapes::Build::of(&view.report),
            urls: endpoints.by_scheme(host, spec.name.as_str()).collect::<BTreeMap<_, _>>(),
        }
    }
}

impl shapes::FunctionLimits {
    fn of(limits: &Limits) -> Self {
        Self {
            call_deadline_seconds: limits.call_deadline.as_secs_f64(),
            start_timeout_seconds: limits.start_timeout.as_secs_f64(),
            calls_per_handler: limits.calls_per_handler,
            waiting_max: limits.waiting_max,
            build_timeout_seconds: limits.build_timeout.as_secs_f64(),
        }
    }
}

impl shapes::CoapAttributes {
    fn of(coap: &CoapAttributes) -> Self {
        let CoapAttributes { observable, rt, interface, ct, sz, title } = coap.clone();
        Self { observable, rt, interface, ct, sz, title }
    }
}

impl shapes::Usage {
    fn of(usage: Usage, cpu: Duration) -> Self {
        Self {
            processes: usage.processes,
            memory_bytes: usage.memory_bytes,
            cpu_seconds: cpu.as_secs_f64(),
        }
    }
}

impl shapes::Trouble {
    fn of(trouble: &Trouble) -> Self {
        let (handler, what) = (trouble.handler.to_string(), trouble.what.clone());
        Self { handler, what, at: time(trouble.at.wall) }
    }
}

impl shapes::Build {
    fn of(report: &BuildReport) -> Self {
        Self {
            began: time(report.began),
            seconds: report.took.as_secs_f64(),
            succeeded: report.problem.is_none(),
            problem: report.problem.clone(),
            output: Some(report.output.clone()),
        }
    }
}
