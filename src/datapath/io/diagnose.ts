/** Looks at the host for `zerohop doctor`: features, cgroup, pins, effective attachment. */
import { existsSync, statfsSync } from 'node:fs';
import { release, version } from 'node:os';
import { BpfLink, BpfProgram, openObject, VerifierError } from '../../../addon/index.ts';
import { ProblemError } from '../../state/problem.ts';
import { chooseEnforcement } from '../../acl/io/enforcement.ts';
import type { Enforcement } from '../../acl/io/enforcement.ts';
import { aclHooks, aclParts, hooks } from '../hooks.ts';
import type { AnyHook, Hook } from '../hooks.ts';
import { findCgroup2, openCgroup } from './cgroup.ts';
import { missingCapabilities, probeFeatures } from './features.ts';
import type { Feature } from './features.ts';
import { readPinnedMeta } from './kernel.ts';
import { effectivePrograms } from './links.ts';
import { objectPath } from './object.ts';
import { Pins } from './pins.ts';

export interface HookReport {
  readonly hook: string;
  /** Whether our pinned program is among those that run. */
  readonly effective: boolean;
  readonly programs: readonly { readonly id: number; readonly name: string }[];
}

export interface AclReport {
  /** What an agent with acl.enforcement auto would have judge here. */
  readonly possible: Enforcement;
  /** What judges now; absent: no agent has left a policy. */
  readonly inForce?: 'BPF LSM + cgroup hooks' | 'cgroup hooks only';
}

export interface Diagnosis {
  readonly kernel: string;
  readonly cgroup: string | undefined;
  readonly pins: string;
  readonly features: readonly Feature[];
  readonly attachments: readonly HookReport[];
  readonly acl: AclReport;
  readonly problems: readonly string[];
}

const BPF_FS_MAGIC = 0xcafe4a11;

function messageOf(error: unknown): string {
  if (error instanceof ProblemError) {
    return error.problems.map((p) => [p.message, p.hint].filter(Boolean).join('; ')).join('; ');
  }
  return error instanceof Error ? error.message : String(error);
}

function programName(id: number): string {
  try {
    using program = BpfProgram.openById(id);
    return program.info.name;
  } catch {
    return '?';
  }
}

function ourProgram(pins: Pins, hook: Hook): { id: number; detached: boolean } | undefined {
  if (!existsSync(pins.link(hook.name))) return undefined;
  using link = BpfLink.openPinned(pins.link(hook.name));
  return { id: link.info.programId, detached: BigInt(link.info.cgroupId ?? 0) === 0n };
}

function hookReport(pins: Pins, cgroup: string, hook: Hook, problems: string[]): HookReport {
  const ids = effectivePrograms(cgroup, hook);
  const ours = ourProgram(pins, hook);
  const effective = ours !== undefined && !ours.detached && ids.includes(ours.id);
  if (ours?.detached === true)
    problems.push(
      `${hook.name}: its cgroup was removed, so nothing is enforced; restart the agent`,
    );
  else if (ours !== undefined && !effective) {
    problems.push(
      `${hook.name}: attached, but not to ${cgroup}; name the agent's cgroup with --cgroup`,
    );
  }
  return { hook: hook.name, effective, programs: ids.map((id) => ({ id, name: programName(id) })) };
}

/** Programs that have no cgroup: there while their pinned link is. */
function traceReport(pins: Pins, hook: AnyHook): HookReport[] {
  if (!existsSync(pins.link(hook.name))) return [];
  using link = BpfLink.openPinned(pins.link(hook.name));
  const { programId } = link.info;
  const programs = [{ id: programId, name: programName(programId) }];
  return [{ hook: hook.name, effective: programId !== 0, programs }];
}

/** Only what a policy has attached. */
function aclReports(pins: Pins, cgroup: string, problems: string[]): HookReport[] {
  return aclParts
    .flatMap((part): readonly AnyHook[] => aclHooks[part])
    .flatMap((hook) => {
      if (hook.attachType === undefined) return traceReport(pins, hook);
      return existsSync(pins.link(hook.name)) ? [hookReport(pins, cgroup, hook, problems)] : [];
    });
}

function aclReport(attachments: readonly HookReport[]): AclReport {
  const effective = (name: string): boolean =>
    attachments.some((at) => at.hook === name && at.effective);
  const possible = chooseEnforcement('auto');
  if (!effective('cgroup_mkdir')) return { possible };
  return {
    possible,
    inForce: effective('lsm_connect') ? 'BPF LSM + cgroup hooks' : 'cgroup hooks only',
  };
}

function describePins(pins: Pins): string {
  const base = '/sys/fs/bpf';
  if (!pins.exist) {
    const mounted = existsSync(base) && statfsSync(base).type === BPF_FS_MAGIC;
    return `none in ${pins.dir}${mounted ? '' : ` (no bpffs on ${base}: mount -t bpf bpf ${base})`}`;
  }
  const meta = readPinnedMeta(pins.map('zh_meta'));
  return `${pins.dir}, layout ${meta?.layout ?? '?'}`;
}

/** Never throws for what it finds: that is what it is for. */
export function diagnose(pinDir: string, cgroupPath: string | undefined): Diagnosis {
  const pins = new Pins(pinDir);
  const problems: string[] = [];
  const attempt = <T>(work: () => T, otherwise: T): T => {
    try {
      return work();
    } catch (error) {
      problems.push(messageOf(error));
      return otherwise;
    }
  };
  const missing = missingCapabilities();
  if (missing.length > 0) problems.push(`missing capabilities: ${missing.join(', ')}; run as root`);
  const cgroup = attempt(() => openCgroup(cgroupPath).path, undefined) ?? findCgroup2();
  const features = missing.length > 0 ? [] : probeFeatures();
  for (const feature of features) {
    if (feature.required && !feature.available) {
      problems.push(
        `this kernel lacks ${feature.name} (Linux ${feature.since}): ${feature.without}`,
      );
    }
  }
  const attachments =
    cgroup === undefined || missing.length > 0
      ? []
      : attempt(
          () => [
            ...hooks.map((hook) => hookReport(pins, cgroup, hook, problems)),
            ...aclReports(pins, cgroup, problems),
          ],
          [],
        );
  const described = attempt(() => describePins(pins), `${pinDir} (cannot be read)`);
  return {
    kernel: `${release()} ${version()}`,
    cgroup,
    pins: described,
    features,
    attachments,
    acl: aclReport(attachments),
    problems,
  };
}

/** What the verifier says of the programs on this kernel. */
export function verifierLog(): string {
  const object = openObject(objectPath());
  try {
    object.load().close();
    return 'every program was accepted';
  } catch (error) {
    return error instanceof VerifierError ? error.log : messageOf(error);
  } finally {
    object.close();
  }
}
