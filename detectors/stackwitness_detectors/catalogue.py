"""What findings may be called: innocent causes with the record that would clear them, and where to look."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cause:
    """Name an innocent cause in both languages, and the record that would show it."""

    code: str
    en: str
    zh: str
    record_en: str
    record_zh: str


_CAUSES = (
    Cause(
        "substitute_data",
        "substitute data (40 CFR 75.33 and the like) sent without a mark",
        "缺失数据替代值未加标记",
        "missing-data log, monitor availability report",
        "缺失数据处理台账、监测设备可用率报告",
    ),
    Cause(
        "analyser_hold",
        "the analyser or its signal was held (blow-back, calibration, sample line)",
        "分析仪或信号保持(反吹、校准、采样管路)",
        "analyser event log, blow-back and calibration schedule",
        "分析仪事件记录、反吹与校准计划",
    ),
    Cause(
        "acquisition_hold",
        "the data logger repeated its last values or filled a gap afterwards",
        "数采仪重复上一组数据或事后补数",
        "data logger event log, communication log",
        "数采仪事件日志、通信日志",
    ),
    Cause(
        "detection_floor",
        "readings at the detection floor or a coarse step",
        "读数处于检出限或分辨率过粗",
        "instrument certificate: detection limit and resolution",
        "仪器证书:检出限与分辨率",
    ),
    Cause(
        "steady_operation",
        "the plant really ran unusually steadily",
        "机组确实异常平稳运行",
        "control-room trend of load and fuel",
        "集控室负荷与燃料曲线",
    ),
    Cause(
        "recalibration",
        "retuning, recalibration or repair moved the level",
        "调试、重新校准或维修改变了水平",
        "calibration and maintenance record, RATA report",
        "校准维护记录、比对监测报告",
    ),
    Cause(
        "fuel_change",
        "another fuel, reagent dose or catalyst",
        "燃料、药剂投加或催化剂变化",
        "fuel and reagent receipts, coal analysis",
        "燃料与药剂台账、煤质分析",
    ),
    Cause(
        "treatment_change",
        "the abatement plant was changed or ran differently",
        "治理设施变更或运行方式改变",
        "abatement plant log (pumps, pH, ammonia)",
        "治理设施运行记录(浆液泵、pH、喷氨)",
    ),
    Cause(
        "covariate_fault",
        "load, oxygen or another explaining channel was wrong",
        "负荷、氧量等解释变量有误",
        "second source of load and oxygen",
        "负荷与氧量的第二来源",
    ),
    Cause(
        "resolution_change",
        "the instrument's range or output resolution was changed",
        "仪器量程或输出分辨率改变",
        "parameter change record of analyser and logger",
        "分析仪与数采仪参数修改记录",
    ),
    Cause(
        "parameter_filed",
        "a parameter (area, factor, reference oxygen) was changed and filed",
        "参数(截面积、系数、基准氧含量)变更且已备案",
        "parameter change record with date and approval",
        "参数变更备案记录(含日期与审批)",
    ),
    Cause(
        "droplets",
        "droplets in the gas are evaporated and measured as vapour",
        "烟气中的液滴蒸发后被计为水汽",
        "demister inspection, gravimetric moisture test",
        "除雾器检查记录、重量法含湿量测定",
    ),
    Cause(
        "gas_changed",
        "another gas bottle, or a changed calibration procedure",
        "更换标气或改变校准程序",
        "gas certificate, calibration procedure and log",
        "标气证书、校准规程与记录",
    ),
    Cause(
        "working_hours",
        "calibrations are done in working hours, when load is high",
        "校准在工作时间进行,而此时负荷较高",
        "duty roster, calibration plan",
        "值班表、校准计划",
    ),
    Cause(
        "limit_control",
        "the abatement is really controlled to a set-point just below the limit",
        "治理设施确按略低于限值的设定值控制",
        "controller set-point history, reagent flow",
        "控制器设定值历史、药剂流量",
    ),
    Cause(
        "load_related_fault",
        "the instrument fails or is serviced at high load for technical reasons",
        "仪器在高负荷时因技术原因失效或检修",
        "fault and maintenance record with times",
        "故障与维护记录(含时间)",
    ),
    Cause(
        "process_fault",
        "the machine or process itself failed, stopped or was run differently",
        "设备或工艺本身发生故障、停运或改变了运行方式",
        "operating log, alarm list, repair orders",
        "运行日志、报警记录、检修工单",
    ),
    Cause(
        "instrument_fault",
        "an instrument fault or a leak",
        "仪器故障或管路泄漏",
        "fault record, leak test",
        "故障记录、检漏记录",
    ),
    Cause(
        "common_source",
        "both stations really measure the same gas, or share one analyser or logger",
        "两站确实测量同一烟气,或共用分析仪或数采仪",
        "drawing of ducts and sample lines, list of shared instruments",
        "烟道与采样管路图、共用仪器清单",
    ),
    Cause(
        "local_cause",
        "something near this station only (wind, traffic, works, its own outage)",
        "仅影响本站的因素(风向、交通、施工、自身停运)",
        "site log, weather record, outage record",
        "现场日志、气象记录、停运记录",
    ),
    Cause(
        "deterministic_process",
        "a start-up or set programme that really repeats",
        "启停或设定程序确实重复",
        "control programme and its log",
        "控制程序及其记录",
    ),
)

CAUSES: dict[str, Cause] = {cause.code: cause for cause in _CAUSES}

# kind of finding -> what to look at on site (English, Chinese)
LOOK_AT: dict[str, tuple[str, str]] = {
    "hold": (
        "Compare the analyser's own display and memory with the logger; look for a held or simulated output.",
        "对比分析仪自身显示与存储数据和数采仪数据;查找信号保持或模拟输出。",
    ),
    "near_hold": (
        "Look for a damped or simulated signal; pass calibration gas and watch the response time.",
        "查找信号阻尼或模拟;通标气观察响应时间。",
    ),
    "response_lost": (
        "Change the load or the dosing a little and watch whether the signal answers; pass calibration gas from the probe.",
        "小幅改变负荷或投药量,观察信号是否响应;从探头端通标气。",
    ),
    "parameter_moved": (
        "Read area, factors, slope, intercept and reference oxygen in analyser and logger; recompute one hour by hand.",
        "核查分析仪与数采仪中的截面积、系数、斜率、截距与基准氧含量;手工复算一小时数据。",
    ),
    "range_changed": (
        "Read the range of analyser and converter and when it was last changed; feed a known current into the logger.",
        "核查分析仪与转换器的量程及最近修改时间;向数采仪输入已知电流验证。",
    ),
    "flow_to_load": (
        "Compare with fuel or steam; check pitot factor, duct area and zero of the flow monitor by a hand-held traverse.",
        "与燃料或蒸汽量比对;用手持仪器横断面测量核查皮托管系数、截面积与流量计零点。",
    ),
    "above_saturation": (
        "Check where moisture comes from (measured or set by hand) and the stack temperature beside it.",
        "核查含湿量来源(实测或人工设定)以及同一位置的烟温。",
    ),
    "common_fall": (
        "Look for air let into probe or sample line; pass calibration gas from the probe and watch oxygen.",
        "检查采样探头与管路是否引入空气;从探头端通标气并观察氧量。",
    ),
    "odd_challenge": (
        "Watch a calibration on site from the probe: rise, plateau and fall; compare bottle, certificate and value.",
        "现场全程观察一次探头端校准:上升、平台与下降;核对气瓶、证书与示值。",
    ),
    "calibrated_high": (
        "Compare these calibrations with the plan, gas use and staff on site; read the analyser's memory for these hours.",
        "将这些校准与计划、标气用量及在岗人员核对;读取分析仪在这些时段的存储数据。",
    ),
    "comb": (
        "Read the factors, ranges and converter settings between analyser and logger, and when they were last changed.",
        "核查分析仪与数采仪之间的系数、量程与转换设置及其最近修改时间。",
    ),
    "ceiling": (
        "Compare raw minute data of the highest hours with the hourly values; look for a clamp or a manual correction.",
        "将最高小时的分钟原始数据与小时值比对;查找限幅或人工修正。",
    ),
    "equal_means": (
        "Add the day up again from the analyser's own memory; ask how the last hours of these days were made.",
        "用分析仪自身存储数据重新计算日均值;核查这些日子最后几小时数据的来源。",
    ),
    "marked_high": (
        "Compare the marks with work orders, calibration gas use and staff on site at these hours.",
        "将标记与工单、标气用量及当时在岗人员核对。",
    ),
    "filled_line": (
        "Read the logger's communication log for these hours; ask the analyser's memory for the true values.",
        "查看数采仪在这些小时的通信日志;从分析仪存储中取真实值。",
    ),
    "idle_load": (
        "Compare the load with the control room's trend, fuel or steam in these hours; see who can set it in the logger.",
        "将该时段负荷与集控室曲线、燃料或蒸汽量比对;核查谁可在数采仪中设定负荷。",
    ),
    "load_withheld": (
        "Read the load from the control room for these hours, and judge the emissions by it; find why it was not sent.",
        "调取集控室该时段负荷并据此判断排放;查明未上传的原因。",
    ),
    "pulse": (
        "Visit at these clock hours; look for clean gas or air at the probe, valves and calibration lines.",
        "在这些时段到场核查;检查探头、阀门与校准管路是否通入清洁气体。",
    ),
    "too_smooth": (
        "Look for averaging, damping or filled-in lines between analyser and logger; compare one hour of raw readings.",
        "检查分析仪与数采仪之间是否有平均、阻尼或直线补数;比对一小时原始读数。",
    ),
    "too_rough": (
        "Ask where the readings of these hours come from; compare them with the analyser's own memory.",
        "核查这些小时的读数来源;与分析仪自身存储数据比对。",
    ),
    "copy": (
        "Compare both periods with the analyser's memory; search the logger for replay or back-filling.",
        "将两个时段与分析仪存储数据比对;检查数采仪是否回放或补录。",
    ),
    "pieces": (
        "Compare the days with the analyser's memory piece by piece; look for software that generates values.",
        "将这些天与分析仪存储数据逐段比对;查找生成数据的软件。",
    ),
    "foreign": (
        "Lay both stations' courses over one another; follow the signal from the probe, and read both loggers' settings.",
        "将两站曲线叠放比较;从采样探头起核查信号走向,并查看两站数采仪设置。",
    ),
    "lower_than_neighbours": (
        "Check span, slope and sample line first; compare with the neighbours' instruments by one portable analyser.",
        "先核查量程、斜率与采样管路;用同一便携分析仪与相邻站点比对。",
    ),
    "apart_from_neighbours": (
        "Ask whether the signal comes from the place at all: pass test gas from the probe, watch it beside a neighbour.",
        "核查信号是否真来自现场:从探头端通标气,并与相邻站点同步观察。",
    ),
    "likeness": (
        "Lay both periods over one another, in the analyser's memory too; look for replay with a factor or noise.",
        "将两个时段(含分析仪存储数据)叠放比较;检查是否加系数或噪声后回放。",
    ),
    "record_repeat": (
        "Read the logger's event log for a hang or back-filling in these hours.",
        "查看数采仪在这些小时的事件日志,是否死机或补录。",
    ),
    "level_low": (
        "Check span and slope settings, the probe and sample line for dilution, and the last calibration.",
        "核查量程与斜率设置、采样探头与管路是否稀释,以及最近一次校准。",
    ),
    "exceedances_missing": (
        "Read the analyser's own memory for the hours that should be high; look for a rule or clamp in the logger.",
        "读取分析仪在预期高值时段的存储数据;检查数采仪中的限幅或改写规则。",
    ),
    "oxygen_line": (
        "Pass calibration gas to the oxygen and carbon dioxide analysers; look for air let into the sample line.",
        "对氧与二氧化碳分析仪通标气;检查采样管路是否引入空气稀释。",
    ),
    "honest_at_visits": (
        "Compare analyser settings and parameter logs of the days of the visit with those before and after.",
        "将检查当日的分析仪设置与参数记录同前后日期比对。",
    ),
    "dependence_lost": (
        "Check whether the signal comes from the stack at all: pass calibration gas from the probe.",
        "核查信号是否真来自烟道:从探头端通标气全系统校准。",
    ),
    "digits": (
        "Ask who or what writes the last digit: see the analyser output, the logger's conversion, manual entry.",
        "核查末位数字由谁产生:分析仪输出、数采仪换算、人工录入。",
    ),
    "below_limit": (
        "Look at raw minute data around the limit and at range or clamp settings.",
        "查看限值附近的分钟原始数据以及量程、限幅设置。",
    ),
    "missing_when_high": (
        "Compare maintenance and fault marks with work orders; read the analyser's own memory for these hours.",
        "将维护、故障标记与工单比对;读取分析仪在这些小时的存储数据。",
    ),
    "odd_features": (
        "Look at the raw trend of the day beside load; nothing single stands out.",
        "结合负荷查看当日原始曲线;没有单项特别突出。",
    ),
}
LOOK_AT_PROCESS = (
    "Ask the log book what was done to the machine in these days; read its own instruments and compare them with the logger.",
    "查阅这些日子的运行与检修记录;读取设备自身仪表并与数采仪数据对比。",
)
