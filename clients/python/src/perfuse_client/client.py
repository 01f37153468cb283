"""Every operation of the server, sync and async.

Written by clients/generate.py out of openapi.yaml; do not edit.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from typing import Literal, Optional, Union

from perfuse_client.call import Call, fresh_key, segment
from perfuse_client.events import Event
from perfuse_client.models import (
    AdapterAnswer,
    AdaptersAnswer,
    CodeToRefine,
    DeletedAnswer,
    DiffuseAnswer,
    EvolutionAnswer,
    FeedbackAnswer,
    GenerationAnswer,
    InstalledBody,
    JsonSchemaBody,
    ListedModel,
    MemoriesAnswer,
    MemoryAnswer,
    ModelsAnswer,
    PlanAnswer,
    PlanGoal,
    ProblemKindAnswer,
    PythonTestsBody,
    RebuildAnswer,
    RevokeAnswer,
    RollBackAnswer,
    SamplerConstants,
    StatusAnswer,
    VersionAnswer,
)
from perfuse_client.transport import AsyncTransport, Transport

Syntax = Literal["auto", "repair", "check", "off"]


class Client(Transport):
    """The operations of a server. What is None is left to the server.

    Each raises `Refused` (a subclass says why), `NoAnswer`, `TimedOut` or `UnexpectedAnswer`; see `errors.py`.
    """

    def diffuse(
        self,
        *,
        model: Optional[str] = None,
        seed: Optional[int] = None,
        deadline_ms: Optional[float] = None,
        priority: Optional[int] = None,
        reproducible: Optional[bool] = None,
        prompt: Optional[str] = None,
        prefix: Optional[str] = None,
        suffix: Optional[str] = None,
        template: Optional[str] = None,
        length: Optional[int] = None,
        language: Optional[str] = None,
        sampler: Optional[str] = None,
        sampler_options: Optional[Union[SamplerConstants, Mapping[str, object]]] = None,
        steps: Optional[int] = None,
        temperature: Optional[float] = None,
        guidance: Optional[float] = None,
        guidance_ramp: Optional[float] = None,
        n: Optional[int] = None,
        adaptation: Optional[str] = None,
        schema: Optional[Mapping[str, object]] = None,
        regex: Optional[str] = None,
        syntax: Optional[Syntax] = None,
        refine: Optional[Union[CodeToRefine, Mapping[str, object]]] = None,
        timeout: Optional[float] = None,
    ) -> DiffuseAnswer:
        """Fill text between a prefix and a suffix, or at the marks of a template, as a prompt says.

        Args:
            model: a name from /models; None: the default of the modality
            seed: None: drawn and returned
            deadline_ms: time after which the best result so far is returned
            priority: higher is sooner; 0 unless given
            reproducible: same build, CPU kind, snapshot and seed give the same bytes in any company
            prompt: what to write, in words
            prefix: text before the fill, returned unchanged
            suffix: text after the fill, returned unchanged
            template: text with <mask> or <mask:N> marks, instead of prefix and suffix
            length: most tokens of the fill
            language: python, javascript, rust, c, shell, that of an installed parser, or text, which is not parsed;
                'python' unless given
            sampler: auto, verified, entropy, threshold, factor, hierarchy, low_confidence, margin, low_entropy, random,
                ancestral, remdm_cap, remdm_rescale, remdm_conf, remdm_loop, editing, or the name of an installed one;
                'auto' unless given
            sampler_options: constants of the sampler; None: its defaults
            steps: most forwards
            temperature: 0: most likely; 0.0 unless given
            guidance: 1: off; 1.0 unless given
            guidance_ramp: share of the span over which guidance rises from 1; 0: at once; 0.0 unless given
            n: number of outputs; 1 unless given
            adaptation: auto: what was learned for requests like this one; none: the base model; or an id; 'auto' unless
                given
            schema: JSON Schema: the fill is JSON that is valid by it
            regex: pattern that the fill matches from beginning to end
            syntax: where the whole text does not parse, repair (write the lines anew), check (say so) or off; auto:
                repair where it is expected to parse; 'auto' unless given
            refine: code to be put right, instead of prefix, suffix and template
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "POST",
            "/diffuse",
            DiffuseAnswer.model_validate_json,
            body={
                "modality": "text",
                "model": model,
                "seed": seed,
                "deadline_ms": deadline_ms,
                "priority": priority,
                "reproducible": reproducible,
                "prompt": prompt,
                "prefix": prefix,
                "suffix": suffix,
                "template": template,
                "length": length,
                "language": language,
                "sampler": sampler,
                "sampler_options": sampler_options,
                "steps": steps,
                "temperature": temperature,
                "guidance": guidance,
                "guidance_ramp": guidance_ramp,
                "n": n,
                "adaptation": adaptation,
                "schema": schema,
                "regex": regex,
                "syntax": syntax,
                "refine": refine,
            },
            timeout=timeout,
        )
        return self._answer(call)

    def diffuse_stream(
        self,
        *,
        model: Optional[str] = None,
        seed: Optional[int] = None,
        deadline_ms: Optional[float] = None,
        priority: Optional[int] = None,
        reproducible: Optional[bool] = None,
        prompt: Optional[str] = None,
        prefix: Optional[str] = None,
        suffix: Optional[str] = None,
        template: Optional[str] = None,
        length: Optional[int] = None,
        language: Optional[str] = None,
        sampler: Optional[str] = None,
        sampler_options: Optional[Union[SamplerConstants, Mapping[str, object]]] = None,
        steps: Optional[int] = None,
        temperature: Optional[float] = None,
        guidance: Optional[float] = None,
        guidance_ramp: Optional[float] = None,
        n: Optional[int] = None,
        adaptation: Optional[str] = None,
        schema: Optional[Mapping[str, object]] = None,
        regex: Optional[str] = None,
        syntax: Optional[Syntax] = None,
        refine: Optional[Union[CodeToRefine, Mapping[str, object]]] = None,
        timeout: Optional[float] = None,
    ) -> Generator[Event[DiffuseAnswer], None, None]:
        """Fill text between a prefix and a suffix, or at the marks of a template, as a prompt says. Gives the events of
        its generation, last a `Result`; closed before, it ends the server's work.

        Args:
            model: a name from /models; None: the default of the modality
            seed: None: drawn and returned
            deadline_ms: time after which the best result so far is returned
            priority: higher is sooner; 0 unless given
            reproducible: same build, CPU kind, snapshot and seed give the same bytes in any company
            prompt: what to write, in words
            prefix: text before the fill, returned unchanged
            suffix: text after the fill, returned unchanged
            template: text with <mask> or <mask:N> marks, instead of prefix and suffix
            length: most tokens of the fill
            language: python, javascript, rust, c, shell, that of an installed parser, or text, which is not parsed;
                'python' unless given
            sampler: auto, verified, entropy, threshold, factor, hierarchy, low_confidence, margin, low_entropy, random,
                ancestral, remdm_cap, remdm_rescale, remdm_conf, remdm_loop, editing, or the name of an installed one;
                'auto' unless given
            sampler_options: constants of the sampler; None: its defaults
            steps: most forwards
            temperature: 0: most likely; 0.0 unless given
            guidance: 1: off; 1.0 unless given
            guidance_ramp: share of the span over which guidance rises from 1; 0: at once; 0.0 unless given
            n: number of outputs; 1 unless given
            adaptation: auto: what was learned for requests like this one; none: the base model; or an id; 'auto' unless
                given
            schema: JSON Schema: the fill is JSON that is valid by it
            regex: pattern that the fill matches from beginning to end
            syntax: where the whole text does not parse, repair (write the lines anew), check (say so) or off; auto:
                repair where it is expected to parse; 'auto' unless given
            refine: code to be put right, instead of prefix, suffix and template
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "POST",
            "/diffuse",
            DiffuseAnswer.model_validate_json,
            body={
                "modality": "text",
                "stream": True,
                "model": model,
                "seed": seed,
                "deadline_ms": deadline_ms,
                "priority": priority,
                "reproducible": reproducible,
                "prompt": prompt,
                "prefix": prefix,
                "suffix": suffix,
                "template": template,
                "length": length,
                "language": language,
                "sampler": sampler,
                "sampler_options": sampler_options,
                "steps": steps,
                "temperature": temperature,
                "guidance": guidance,
                "guidance_ramp": guidance_ramp,
                "n": n,
                "adaptation": adaptation,
                "schema": schema,
                "regex": regex,
                "syntax": syntax,
                "refine": refine,
            },
            timeout=timeout,
        )
        return self._stream(call)

    def plan(
        self,
        *,
        environment: str,
        state: Sequence[float],
        goal: Union[PlanGoal, Mapping[str, object]],
        model: Optional[str] = None,
        seed: Optional[int] = None,
        deadline_ms: Optional[float] = None,
        priority: Optional[int] = None,
        reproducible: Optional[bool] = None,
        candidates: Optional[int] = None,
        steps: Optional[int] = None,
        timeout: Optional[float] = None,
    ) -> PlanAnswer:
        """Plan from a state to a goal; the best of several candidates comes back with a verdict.

        Args:
            state: x, y, vx, vy
            model: a name from /models; None: the default of the modality
            seed: None: drawn and returned
            deadline_ms: time after which the best result so far is returned
            priority: higher is sooner; 0 unless given
            reproducible: same build, CPU kind, snapshot and seed give the same bytes in any company
            candidates: plans drawn; 16 unless given
            steps: denoising steps; 8 unless given
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "POST",
            "/plan",
            PlanAnswer.model_validate_json,
            body={
                "domain": "trajectory",
                "model": model,
                "seed": seed,
                "deadline_ms": deadline_ms,
                "priority": priority,
                "reproducible": reproducible,
                "environment": environment,
                "state": state,
                "goal": goal,
                "candidates": candidates,
                "steps": steps,
            },
            timeout=timeout,
        )
        return self._answer(call)

    def plan_stream(
        self,
        *,
        environment: str,
        state: Sequence[float],
        goal: Union[PlanGoal, Mapping[str, object]],
        model: Optional[str] = None,
        seed: Optional[int] = None,
        deadline_ms: Optional[float] = None,
        priority: Optional[int] = None,
        reproducible: Optional[bool] = None,
        candidates: Optional[int] = None,
        steps: Optional[int] = None,
        timeout: Optional[float] = None,
    ) -> Generator[Event[PlanAnswer], None, None]:
        """Plan from a state to a goal; the best of several candidates comes back with a verdict. Gives the events of
        its generation, last a `Result`; closed before, it ends the server's work.

        Args:
            state: x, y, vx, vy
            model: a name from /models; None: the default of the modality
            seed: None: drawn and returned
            deadline_ms: time after which the best result so far is returned
            priority: higher is sooner; 0 unless given
            reproducible: same build, CPU kind, snapshot and seed give the same bytes in any company
            candidates: plans drawn; 16 unless given
            steps: denoising steps; 8 unless given
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "POST",
            "/plan",
            PlanAnswer.model_validate_json,
            body={
                "domain": "trajectory",
                "stream": True,
                "model": model,
                "seed": seed,
                "deadline_ms": deadline_ms,
                "priority": priority,
                "reproducible": reproducible,
                "environment": environment,
                "state": state,
                "goal": goal,
                "candidates": candidates,
                "steps": steps,
            },
            timeout=timeout,
        )
        return self._stream(call)

    def feedback(
        self,
        *,
        generation_id: str,
        source: str,
        output: Optional[int] = None,
        reward: Optional[float] = None,
        accepted: Optional[bool] = None,
        correction: Optional[str] = None,
        outcome: Optional[Mapping[str, object]] = None,
        verifier: Union[PythonTestsBody, Mapping[str, object], JsonSchemaBody, InstalledBody, None] = None,
        idempotency_key: Optional[str] = None,
        timeout: Optional[float] = None,
    ) -> FeedbackAnswer:
        """Say how good a generation was. The answer comes when the feedback is on disk; it is learned from later.

        Args:
            source: who says so; feedback is weighed, limited and revoked by source
            output: which output is meant; 0 unless given
            correction: the text as it should have been, prefix and suffix included
            outcome: what came of it: names with booleans, numbers or texts
            idempotency_key: a second feedback under the same key is the first one
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "POST",
            "/feedback",
            FeedbackAnswer.model_validate_json,
            body={
                "generation_id": generation_id,
                "output": output,
                "source": source,
                "reward": reward,
                "accepted": accepted,
                "correction": correction,
                "outcome": outcome,
                "verifier": verifier,
                "idempotency_key": idempotency_key or fresh_key(),
            },
            timeout=timeout,
        )
        return self._answer(call)

    def adapters(
        self,
        *,
        timeout: Optional[float] = None,
    ) -> AdaptersAnswer:
        """All adaptations of the tenant.

        Args:
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "GET",
            "/adapters",
            AdaptersAnswer.model_validate_json,
            timeout=timeout,
        )
        return self._answer(call)

    def adapter(
        self,
        adapter_id: str,
        *,
        timeout: Optional[float] = None,
    ) -> AdapterAnswer:
        """One adaptation. Those of other tenants do not exist.

        Args:
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "GET",
            f"/adapters/{segment(adapter_id)}",
            AdapterAnswer.model_validate_json,
            timeout=timeout,
        )
        return self._answer(call)

    def promote(
        self,
        adapter_id: str,
        *,
        force: Optional[bool] = None,
        timeout: Optional[float] = None,
    ) -> AdapterAnswer:
        """Make a candidate or canary the champion of its cluster now; the next request is served by it.

        Args:
            force: also without a report of the gate, or against it
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "POST",
            f"/adapters/{segment(adapter_id)}/promote",
            AdapterAnswer.model_validate_json,
            body={
                "force": force,
            },
            timeout=timeout,
        )
        return self._answer(call)

    def rollback(
        self,
        adapter_id: str,
        *,
        timeout: Optional[float] = None,
    ) -> RollBackAnswer:
        """Take a champion or canary out of service; the champion before it, or the base model, serves the next request.

        Args:
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "POST",
            f"/adapters/{segment(adapter_id)}/rollback",
            RollBackAnswer.model_validate_json,
            body={},
            timeout=timeout,
        )
        return self._answer(call)

    def evolution(
        self,
        *,
        timeout: Optional[float] = None,
    ) -> EvolutionAnswer:
        """Feedback by state, clusters with what serves them, jobs and the inbox.

        Args:
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "GET",
            "/evolution",
            EvolutionAnswer.model_validate_json,
            timeout=timeout,
        )
        return self._answer(call)

    def revoke(
        self,
        *,
        source: str,
        timeout: Optional[float] = None,
    ) -> RevokeAnswer:
        """Take back all that a source has given; what was learned from it leaves service before the answer comes.

        Args:
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "POST",
            "/evolution/revoke",
            RevokeAnswer.model_validate_json,
            body={
                "source": source,
            },
            timeout=timeout,
        )
        return self._answer(call)

    def rebuild(
        self,
        *,
        cluster: Optional[str] = None,
        timeout: Optional[float] = None,
    ) -> RebuildAnswer:
        """Queue the training of a cluster, or of all, on all the feedback that counts.

        Args:
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "POST",
            "/evolution/rebuild",
            RebuildAnswer.model_validate_json,
            body={
                "cluster": cluster,
            },
            timeout=timeout,
        )
        return self._answer(call)

    def remember(
        self,
        *,
        prompt: str,
        text: str,
        source: Optional[str] = None,
        idempotency_key: Optional[str] = None,
        timeout: Optional[float] = None,
    ) -> MemoryAnswer:
        """Keep a text.

        Args:
            source: who says so; memories are revoked by source; 'unnamed' unless given
            idempotency_key: a second memory under the same key is the first one
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "POST",
            "/memories",
            MemoryAnswer.model_validate_json,
            body={
                "prompt": prompt,
                "text": text,
                "source": source,
                "idempotency_key": idempotency_key or fresh_key(),
            },
            timeout=timeout,
        )
        return self._answer(call)

    def memories(
        self,
        *,
        limit: Optional[int] = None,
        after: Optional[str] = None,
        timeout: Optional[float] = None,
    ) -> MemoriesAnswer:
        """The memories of the tenant, a page at a time.

        Args:
            limit: 100 unless given
            after: an id; what comes behind it is listed
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "GET",
            "/memories",
            MemoriesAnswer.model_validate_json,
            query={
                "limit": limit,
                "after": after,
            },
            timeout=timeout,
        )
        return self._answer(call)

    def replace_memory(
        self,
        memory_id: str,
        *,
        prompt: str,
        text: str,
        source: Optional[str] = None,
        timeout: Optional[float] = None,
    ) -> MemoryAnswer:
        """Put another text in the place of a memory.

        Args:
            source: who says so; memories are revoked by source; 'unnamed' unless given
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "PUT",
            f"/memories/{segment(memory_id)}",
            MemoryAnswer.model_validate_json,
            body={
                "prompt": prompt,
                "text": text,
                "source": source,
            },
            timeout=timeout,
        )
        return self._answer(call)

    def memory(
        self,
        memory_id: str,
        *,
        timeout: Optional[float] = None,
    ) -> MemoryAnswer:
        """One memory. Those of other tenants do not exist.

        Args:
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "GET",
            f"/memories/{segment(memory_id)}",
            MemoryAnswer.model_validate_json,
            timeout=timeout,
        )
        return self._answer(call)

    def forget(
        self,
        memory_id: str,
        *,
        timeout: Optional[float] = None,
    ) -> DeletedAnswer:
        """Forget a memory.

        Args:
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "DELETE",
            f"/memories/{segment(memory_id)}",
            DeletedAnswer.model_validate_json,
            timeout=timeout,
        )
        return self._answer(call)

    def generation(
        self,
        generation_id: str,
        *,
        timeout: Optional[float] = None,
    ) -> GenerationAnswer:
        """The request as it was understood, and its result. Ids of other tenants do not exist.

        Args:
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "GET",
            f"/generations/{segment(generation_id)}",
            GenerationAnswer.model_validate_json,
            timeout=timeout,
        )
        return self._answer(call)

    def models(
        self,
        *,
        timeout: Optional[float] = None,
    ) -> ModelsAnswer:
        """The models that are loaded now; `data` lists those that write text as OpenAI's clients expect it.

        Args:
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "GET",
            "/models",
            ModelsAnswer.model_validate_json,
            timeout=timeout,
        )
        return self._answer(call)

    def retrieve_model(
        self,
        name: str,
        *,
        timeout: Optional[float] = None,
    ) -> ListedModel:
        """One text model, as OpenAI's clients ask for it.

        Args:
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "GET",
            f"/models/{segment(name)}",
            ListedModel.model_validate_json,
            timeout=timeout,
        )
        return self._answer(call)

    def livez(
        self,
        *,
        timeout: Optional[float] = None,
    ) -> StatusAnswer:
        """Whether the front answers.

        Args:
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "GET",
            "/livez",
            StatusAnswer.model_validate_json,
            timeout=timeout,
        )
        return self._answer(call)

    def readyz(
        self,
        *,
        timeout: Optional[float] = None,
    ) -> StatusAnswer:
        """Whether requests can be served: 503 until an engine has answered its warm-up.

        Args:
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "GET",
            "/readyz",
            StatusAnswer.model_validate_json,
            timeout=timeout,
        )
        return self._answer(call)

    def exposition(
        self,
        *,
        timeout: Optional[float] = None,
    ) -> str:
        """Metrics for Prometheus.

        Args:
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "GET",
            "/metrics",
            bytes.decode,
            timeout=timeout,
        )
        return self._answer(call)

    def version(
        self,
        *,
        timeout: Optional[float] = None,
    ) -> VersionAnswer:
        """What runs here.

        Args:
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "GET",
            "/version",
            VersionAnswer.model_validate_json,
            timeout=timeout,
        )
        return self._answer(call)

    def problem(
        self,
        code: str,
        *,
        timeout: Optional[float] = None,
    ) -> ProblemKindAnswer:
        """What a problem's `code` means; its `type` points here.

        Args:
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "GET",
            f"/problems/{segment(code)}",
            ProblemKindAnswer.model_validate_json,
            timeout=timeout,
        )
        return self._answer(call)


class AsyncClient(AsyncTransport):
    """The operations of a server, on an asyncio loop. What is None is left to the server.

    Each raises `Refused` (a subclass says why), `NoAnswer`, `TimedOut` or `UnexpectedAnswer`; see `errors.py`.
    """

    async def diffuse(
        self,
        *,
        model: Optional[str] = None,
        seed: Optional[int] = None,
        deadline_ms: Optional[float] = None,
        priority: Optional[int] = None,
        reproducible: Optional[bool] = None,
        prompt: Optional[str] = None,
        prefix: Optional[str] = None,
        suffix: Optional[str] = None,
        template: Optional[str] = None,
        length: Optional[int] = None,
        language: Optional[str] = None,
        sampler: Optional[str] = None,
        sampler_options: Optional[Union[SamplerConstants, Mapping[str, object]]] = None,
        steps: Optional[int] = None,
        temperature: Optional[float] = None,
        guidance: Optional[float] = None,
        guidance_ramp: Optional[float] = None,
        n: Optional[int] = None,
        adaptation: Optional[str] = None,
        schema: Optional[Mapping[str, object]] = None,
        regex: Optional[str] = None,
        syntax: Optional[Syntax] = None,
        refine: Optional[Union[CodeToRefine, Mapping[str, object]]] = None,
        timeout: Optional[float] = None,
    ) -> DiffuseAnswer:
        """Fill text between a prefix and a suffix, or at the marks of a template, as a prompt says.

        Args:
            model: a name from /models; None: the default of the modality
            seed: None: drawn and returned
            deadline_ms: time after which the best result so far is returned
            priority: higher is sooner; 0 unless given
            reproducible: same build, CPU kind, snapshot and seed give the same bytes in any company
            prompt: what to write, in words
            prefix: text before the fill, returned unchanged
            suffix: text after the fill, returned unchanged
            template: text with <mask> or <mask:N> marks, instead of prefix and suffix
            length: most tokens of the fill
            language: python, javascript, rust, c, shell, that of an installed parser, or text, which is not parsed;
                'python' unless given
            sampler: auto, verified, entropy, threshold, factor, hierarchy, low_confidence, margin, low_entropy, random,
                ancestral, remdm_cap, remdm_rescale, remdm_conf, remdm_loop, editing, or the name of an installed one;
                'auto' unless given
            sampler_options: constants of the sampler; None: its defaults
            steps: most forwards
            temperature: 0: most likely; 0.0 unless given
            guidance: 1: off; 1.0 unless given
            guidance_ramp: share of the span over which guidance rises from 1; 0: at once; 0.0 unless given
            n: number of outputs; 1 unless given
            adaptation: auto: what was learned for requests like this one; none: the base model; or an id; 'auto' unless
                given
            schema: JSON Schema: the fill is JSON that is valid by it
            regex: pattern that the fill matches from beginning to end
            syntax: where the whole text does not parse, repair (write the lines anew), check (say so) or off; auto:
                repair where it is expected to parse; 'auto' unless given
            refine: code to be put right, instead of prefix, suffix and template
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "POST",
            "/diffuse",
            DiffuseAnswer.model_validate_json,
            body={
                "modality": "text",
                "model": model,
                "seed": seed,
                "deadline_ms": deadline_ms,
                "priority": priority,
                "reproducible": reproducible,
                "prompt": prompt,
                "prefix": prefix,
                "suffix": suffix,
                "template": template,
                "length": length,
                "language": language,
                "sampler": sampler,
                "sampler_options": sampler_options,
                "steps": steps,
                "temperature": temperature,
                "guidance": guidance,
                "guidance_ramp": guidance_ramp,
                "n": n,
                "adaptation": adaptation,
                "schema": schema,
                "regex": regex,
                "syntax": syntax,
                "refine": refine,
            },
            timeout=timeout,
        )
        return await self._answer(call)

    def diffuse_stream(
        self,
        *,
        model: Optional[str] = None,
        seed: Optional[int] = None,
        deadline_ms: Optional[float] = None,
        priority: Optional[int] = None,
        reproducible: Optional[bool] = None,
        prompt: Optional[str] = None,
        prefix: Optional[str] = None,
        suffix: Optional[str] = None,
        template: Optional[str] = None,
        length: Optional[int] = None,
        language: Optional[str] = None,
        sampler: Optional[str] = None,
        sampler_options: Optional[Union[SamplerConstants, Mapping[str, object]]] = None,
        steps: Optional[int] = None,
        temperature: Optional[float] = None,
        guidance: Optional[float] = None,
        guidance_ramp: Optional[float] = None,
        n: Optional[int] = None,
        adaptation: Optional[str] = None,
        schema: Optional[Mapping[str, object]] = None,
        regex: Optional[str] = None,
        syntax: Optional[Syntax] = None,
        refine: Optional[Union[CodeToRefine, Mapping[str, object]]] = None,
        timeout: Optional[float] = None,
    ) -> AsyncGenerator[Event[DiffuseAnswer], None]:
        """Fill text between a prefix and a suffix, or at the marks of a template, as a prompt says. Gives the events of
        its generation, last a `Result`; closed before, it ends the server's work.

        Args:
            model: a name from /models; None: the default of the modality
            seed: None: drawn and returned
            deadline_ms: time after which the best result so far is returned
            priority: higher is sooner; 0 unless given
            reproducible: same build, CPU kind, snapshot and seed give the same bytes in any company
            prompt: what to write, in words
            prefix: text before the fill, returned unchanged
            suffix: text after the fill, returned unchanged
            template: text with <mask> or <mask:N> marks, instead of prefix and suffix
            length: most tokens of the fill
            language: python, javascript, rust, c, shell, that of an installed parser, or text, which is not parsed;
                'python' unless given
            sampler: auto, verified, entropy, threshold, factor, hierarchy, low_confidence, margin, low_entropy, random,
                ancestral, remdm_cap, remdm_rescale, remdm_conf, remdm_loop, editing, or the name of an installed one;
                'auto' unless given
            sampler_options: constants of the sampler; None: its defaults
            steps: most forwards
            temperature: 0: most likely; 0.0 unless given
            guidance: 1: off; 1.0 unless given
            guidance_ramp: share of the span over which guidance rises from 1; 0: at once; 0.0 unless given
            n: number of outputs; 1 unless given
            adaptation: auto: what was learned for requests like this one; none: the base model; or an id; 'auto' unless
                given
            schema: JSON Schema: the fill is JSON that is valid by it
            regex: pattern that the fill matches from beginning to end
            syntax: where the whole text does not parse, repair (write the lines anew), check (say so) or off; auto:
                repair where it is expected to parse; 'auto' unless given
            refine: code to be put right, instead of prefix, suffix and template
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "POST",
            "/diffuse",
            DiffuseAnswer.model_validate_json,
            body={
                "modality": "text",
                "stream": True,
                "model": model,
                "seed": seed,
                "deadline_ms": deadline_ms,
                "priority": priority,
                "reproducible": reproducible,
                "prompt": prompt,
                "prefix": prefix,
                "suffix": suffix,
                "template": template,
                "length": length,
                "language": language,
                "sampler": sampler,
                "sampler_options": sampler_options,
                "steps": steps,
                "temperature": temperature,
                "guidance": guidance,
                "guidance_ramp": guidance_ramp,
                "n": n,
                "adaptation": adaptation,
                "schema": schema,
                "regex": regex,
                "syntax": syntax,
                "refine": refine,
            },
            timeout=timeout,
        )
        return self._stream(call)

    async def plan(
        self,
        *,
        environment: str,
        state: Sequence[float],
        goal: Union[PlanGoal, Mapping[str, object]],
        model: Optional[str] = None,
        seed: Optional[int] = None,
        deadline_ms: Optional[float] = None,
        priority: Optional[int] = None,
        reproducible: Optional[bool] = None,
        candidates: Optional[int] = None,
        steps: Optional[int] = None,
        timeout: Optional[float] = None,
    ) -> PlanAnswer:
        """Plan from a state to a goal; the best of several candidates comes back with a verdict.

        Args:
            state: x, y, vx, vy
            model: a name from /models; None: the default of the modality
            seed: None: drawn and returned
            deadline_ms: time after which the best result so far is returned
            priority: higher is sooner; 0 unless given
            reproducible: same build, CPU kind, snapshot and seed give the same bytes in any company
            candidates: plans drawn; 16 unless given
            steps: denoising steps; 8 unless given
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "POST",
            "/plan",
            PlanAnswer.model_validate_json,
            body={
                "domain": "trajectory",
                "model": model,
                "seed": seed,
                "deadline_ms": deadline_ms,
                "priority": priority,
                "reproducible": reproducible,
                "environment": environment,
                "state": state,
                "goal": goal,
                "candidates": candidates,
                "steps": steps,
            },
            timeout=timeout,
        )
        return await self._answer(call)

    def plan_stream(
        self,
        *,
        environment: str,
        state: Sequence[float],
        goal: Union[PlanGoal, Mapping[str, object]],
        model: Optional[str] = None,
        seed: Optional[int] = None,
        deadline_ms: Optional[float] = None,
        priority: Optional[int] = None,
        reproducible: Optional[bool] = None,
        candidates: Optional[int] = None,
        steps: Optional[int] = None,
        timeout: Optional[float] = None,
    ) -> AsyncGenerator[Event[PlanAnswer], None]:
        """Plan from a state to a goal; the best of several candidates comes back with a verdict. Gives the events of
        its generation, last a `Result`; closed before, it ends the server's work.

        Args:
            state: x, y, vx, vy
            model: a name from /models; None: the default of the modality
            seed: None: drawn and returned
            deadline_ms: time after which the best result so far is returned
            priority: higher is sooner; 0 unless given
            reproducible: same build, CPU kind, snapshot and seed give the same bytes in any company
            candidates: plans drawn; 16 unless given
            steps: denoising steps; 8 unless given
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "POST",
            "/plan",
            PlanAnswer.model_validate_json,
            body={
                "domain": "trajectory",
                "stream": True,
                "model": model,
                "seed": seed,
                "deadline_ms": deadline_ms,
                "priority": priority,
                "reproducible": reproducible,
                "environment": environment,
                "state": state,
                "goal": goal,
                "candidates": candidates,
                "steps": steps,
            },
            timeout=timeout,
        )
        return self._stream(call)

    async def feedback(
        self,
        *,
        generation_id: str,
        source: str,
        output: Optional[int] = None,
        reward: Optional[float] = None,
        accepted: Optional[bool] = None,
        correction: Optional[str] = None,
        outcome: Optional[Mapping[str, object]] = None,
        verifier: Union[PythonTestsBody, Mapping[str, object], JsonSchemaBody, InstalledBody, None] = None,
        idempotency_key: Optional[str] = None,
        timeout: Optional[float] = None,
    ) -> FeedbackAnswer:
        """Say how good a generation was. The answer comes when the feedback is on disk; it is learned from later.

        Args:
            source: who says so; feedback is weighed, limited and revoked by source
            output: which output is meant; 0 unless given
            correction: the text as it should have been, prefix and suffix included
            outcome: what came of it: names with booleans, numbers or texts
            idempotency_key: a second feedback under the same key is the first one
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "POST",
            "/feedback",
            FeedbackAnswer.model_validate_json,
            body={
                "generation_id": generation_id,
                "output": output,
                "source": source,
                "reward": reward,
                "accepted": accepted,
                "correction": correction,
                "outcome": outcome,
                "verifier": verifier,
                "idempotency_key": idempotency_key or fresh_key(),
            },
            timeout=timeout,
        )
        return await self._answer(call)

    async def adapters(
        self,
        *,
        timeout: Optional[float] = None,
    ) -> AdaptersAnswer:
        """All adaptations of the tenant.

        Args:
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "GET",
            "/adapters",
            AdaptersAnswer.model_validate_json,
            timeout=timeout,
        )
        return await self._answer(call)

    async def adapter(
        self,
        adapter_id: str,
        *,
        timeout: Optional[float] = None,
    ) -> AdapterAnswer:
        """One adaptation. Those of other tenants do not exist.

        Args:
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "GET",
            f"/adapters/{segment(adapter_id)}",
            AdapterAnswer.model_validate_json,
            timeout=timeout,
        )
        return await self._answer(call)

    async def promote(
        self,
        adapter_id: str,
        *,
        force: Optional[bool] = None,
        timeout: Optional[float] = None,
    ) -> AdapterAnswer:
        """Make a candidate or canary the champion of its cluster now; the next request is served by it.

        Args:
            force: also without a report of the gate, or against it
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "POST",
            f"/adapters/{segment(adapter_id)}/promote",
            AdapterAnswer.model_validate_json,
            body={
                "force": force,
            },
            timeout=timeout,
        )
        return await self._answer(call)

    async def rollback(
        self,
        adapter_id: str,
        *,
        timeout: Optional[float] = None,
    ) -> RollBackAnswer:
        """Take a champion or canary out of service; the champion before it, or the base model, serves the next request.

        Args:
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "POST",
            f"/adapters/{segment(adapter_id)}/rollback",
            RollBackAnswer.model_validate_json,
            body={},
            timeout=timeout,
        )
        return await self._answer(call)

    async def evolution(
        self,
        *,
        timeout: Optional[float] = None,
    ) -> EvolutionAnswer:
        """Feedback by state, clusters with what serves them, jobs and the inbox.

        Args:
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "GET",
            "/evolution",
            EvolutionAnswer.model_validate_json,
            timeout=timeout,
        )
        return await self._answer(call)

    async def revoke(
        self,
        *,
        source: str,
        timeout: Optional[float] = None,
    ) -> RevokeAnswer:
        """Take back all that a source has given; what was learned from it leaves service before the answer comes.

        Args:
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "POST",
            "/evolution/revoke",
            RevokeAnswer.model_validate_json,
            body={
                "source": source,
            },
            timeout=timeout,
        )
        return await self._answer(call)

    async def rebuild(
        self,
        *,
        cluster: Optional[str] = None,
        timeout: Optional[float] = None,
    ) -> RebuildAnswer:
        """Queue the training of a cluster, or of all, on all the feedback that counts.

        Args:
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "POST",
            "/evolution/rebuild",
            RebuildAnswer.model_validate_json,
            body={
                "cluster": cluster,
            },
            timeout=timeout,
        )
        return await self._answer(call)

    async def remember(
        self,
        *,
        prompt: str,
        text: str,
        source: Optional[str] = None,
        idempotency_key: Optional[str] = None,
        timeout: Optional[float] = None,
    ) -> MemoryAnswer:
        """Keep a text.

        Args:
            source: who says so; memories are revoked by source; 'unnamed' unless given
            idempotency_key: a second memory under the same key is the first one
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "POST",
            "/memories",
            MemoryAnswer.model_validate_json,
            body={
                "prompt": prompt,
                "text": text,
                "source": source,
                "idempotency_key": idempotency_key or fresh_key(),
            },
            timeout=timeout,
        )
        return await self._answer(call)

    async def memories(
        self,
        *,
        limit: Optional[int] = None,
        after: Optional[str] = None,
        timeout: Optional[float] = None,
    ) -> MemoriesAnswer:
        """The memories of the tenant, a page at a time.

        Args:
            limit: 100 unless given
            after: an id; what comes behind it is listed
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "GET",
            "/memories",
            MemoriesAnswer.model_validate_json,
            query={
                "limit": limit,
                "after": after,
            },
            timeout=timeout,
        )
        return await self._answer(call)

    async def replace_memory(
        self,
        memory_id: str,
        *,
        prompt: str,
        text: str,
        source: Optional[str] = None,
        timeout: Optional[float] = None,
    ) -> MemoryAnswer:
        """Put another text in the place of a memory.

        Args:
            source: who says so; memories are revoked by source; 'unnamed' unless given
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "PUT",
            f"/memories/{segment(memory_id)}",
            MemoryAnswer.model_validate_json,
            body={
                "prompt": prompt,
                "text": text,
                "source": source,
            },
            timeout=timeout,
        )
        return await self._answer(call)

    async def memory(
        self,
        memory_id: str,
        *,
        timeout: Optional[float] = None,
    ) -> MemoryAnswer:
        """One memory. Those of other tenants do not exist.

        Args:
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "GET",
            f"/memories/{segment(memory_id)}",
            MemoryAnswer.model_validate_json,
            timeout=timeout,
        )
        return await self._answer(call)

    async def forget(
        self,
        memory_id: str,
        *,
        timeout: Optional[float] = None,
    ) -> DeletedAnswer:
        """Forget a memory.

        Args:
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "DELETE",
            f"/memories/{segment(memory_id)}",
            DeletedAnswer.model_validate_json,
            timeout=timeout,
        )
        return await self._answer(call)

    async def generation(
        self,
        generation_id: str,
        *,
        timeout: Optional[float] = None,
    ) -> GenerationAnswer:
        """The request as it was understood, and its result. Ids of other tenants do not exist.

        Args:
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "GET",
            f"/generations/{segment(generation_id)}",
            GenerationAnswer.model_validate_json,
            timeout=timeout,
        )
        return await self._answer(call)

    async def models(
        self,
        *,
        timeout: Optional[float] = None,
    ) -> ModelsAnswer:
        """The models that are loaded now; `data` lists those that write text as OpenAI's clients expect it.

        Args:
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "GET",
            "/models",
            ModelsAnswer.model_validate_json,
            timeout=timeout,
        )
        return await self._answer(call)

    async def retrieve_model(
        self,
        name: str,
        *,
        timeout: Optional[float] = None,
    ) -> ListedModel:
        """One text model, as OpenAI's clients ask for it.

        Args:
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "GET",
            f"/models/{segment(name)}",
            ListedModel.model_validate_json,
            timeout=timeout,
        )
        return await self._answer(call)

    async def livez(
        self,
        *,
        timeout: Optional[float] = None,
    ) -> StatusAnswer:
        """Whether the front answers.

        Args:
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "GET",
            "/livez",
            StatusAnswer.model_validate_json,
            timeout=timeout,
        )
        return await self._answer(call)

    async def readyz(
        self,
        *,
        timeout: Optional[float] = None,
    ) -> StatusAnswer:
        """Whether requests can be served: 503 until an engine has answered its warm-up.

        Args:
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "GET",
            "/readyz",
            StatusAnswer.model_validate_json,
            timeout=timeout,
        )
        return await self._answer(call)

    async def exposition(
        self,
        *,
        timeout: Optional[float] = None,
    ) -> str:
        """Metrics for Prometheus.

        Args:
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "GET",
            "/metrics",
            bytes.decode,
            timeout=timeout,
        )
        return await self._answer(call)

    async def version(
        self,
        *,
        timeout: Optional[float] = None,
    ) -> VersionAnswer:
        """What runs here.

        Args:
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "GET",
            "/version",
            VersionAnswer.model_validate_json,
            timeout=timeout,
        )
        return await self._answer(call)

    async def problem(
        self,
        code: str,
        *,
        timeout: Optional[float] = None,
    ) -> ProblemKindAnswer:
        """What a problem's `code` means; its `type` points here.

        Args:
            timeout: seconds of silence; None: the client's
        """
        call = Call(
            "GET",
            f"/problems/{segment(code)}",
            ProblemKindAnswer.model_validate_json,
            timeout=timeout,
        )
        return await self._answer(call)
